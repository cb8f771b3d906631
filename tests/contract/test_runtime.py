"""What every Runtime promises. Implementations: processes of this machine (Kubernetes comes later)."""

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from innkeeper.adapters.http_health import HttpHealth
from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.model.app import App, SecretSpec
from innkeeper.model.errors import PermanentError, StaleGenerationError, TemporaryError
from innkeeper.model.observed import Life, RuntimeObservation
from innkeeper.model.workspace import ActivationRef, Address
from innkeeper.ports import Runtime
from support.activations import SERVER, VALUES, program, spec
from support.waiting import eventually

FIRST = ActivationRef("a1b2c3", 1)
SECOND = replace(FIRST, generation=2)


@dataclass(frozen=True)
class Bench:
    """A runtime, as one worker holds it, and how another worker gets at the same."""

    folder: Path
    runtime: Runtime

    def another(self) -> Runtime:
        return LocalRuntime(self.folder / "runtime")

    def app(self, source: str, **env: str) -> App:
        return program(self.folder, source, env=env or None)


@pytest.fixture(params=["processes"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, LocalRuntime(tmp_path / "runtime"))
    yield bench
    for ref in bench.runtime.inventory():
        bench.runtime.stop(ref, grace=0)


def serves(address: Address) -> bool:
    return HttpHealth().check(address, "/", host="x").healthy


def running(runtime: Runtime, ref: ActivationRef) -> RuntimeObservation:
    """The observation of an activation that answers requests."""

    def look() -> RuntimeObservation | None:
        seen = runtime.observe(ref)
        assert seen.life in {Life.STARTING, Life.RUNNING}, seen
        return seen if seen.address and serves(seen.address) else None

    seen = eventually(look, describe=lambda: runtime.observe(ref))
    assert seen
    return seen


def ended(runtime: Runtime, ref: ActivationRef) -> RuntimeObservation:
    eventually(lambda: runtime.observe(ref).life is Life.EXITED, describe=lambda: runtime.observe(ref))
    return runtime.observe(ref)


# --- start and observe ------------------------------------------------------------------------------------------------


def test_nothing_is_absent(bench: Bench):
    assert bench.runtime.observe(FIRST) == RuntimeObservation(Life.ABSENT)
    assert list(bench.runtime.inventory()) == []
    assert list(bench.runtime.logs(FIRST)) == []


def test_a_started_activation_answers_at_its_address(bench: Bench):
    bench.runtime.start(spec(FIRST, bench.app(SERVER)))
    seen = running(bench.runtime, FIRST)
    assert seen.life is Life.RUNNING
    assert list(bench.runtime.inventory()) == [FIRST]
    assert bench.another().observe(FIRST) == seen


def test_starting_twice_starts_once(bench: Bench):
    app = bench.app(SERVER)
    bench.runtime.start(spec(FIRST, app))
    seen = running(bench.runtime, FIRST)
    bench.another().start(spec(FIRST, app))
    assert bench.runtime.observe(FIRST) == seen


def test_all_who_start_at_once_start_once(bench: Bench):
    app = bench.app("print('started')\n" + SERVER)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: bench.another().start(spec(FIRST, app)), range(32)))
    running(bench.runtime, FIRST)
    assert list(bench.runtime.logs(FIRST)) == ["started"]


def test_the_environment_is_exactly_the_specs(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CANARY", "of the worker")
    app = bench.app(
        "import json, os; print(json.dumps(dict(os.environ)))",
        WHERE="{host}:{port}",
        DATABASE="{database_url}",
        BRACES='{"a": {b}}',
        EMPTY="",
        LINES="one\ntwo",
        go="kept",
    )
    app = replace(app, secrets=(SecretSpec("PASSWORD"),))
    bench.runtime.start(spec(FIRST, app, secrets={"PASSWORD": "x y'z\"$(w)"}))
    seen = ended(bench.runtime, FIRST)
    environment = json.loads(seen.tail)
    # Python's own addition where no locale is set (PEP 538).
    environment.pop("LC_CTYPE", None)
    host, _, port = environment.pop("WHERE").partition(":")
    assert host
    assert int(port)
    assert environment == {
        "DATABASE": VALUES["database_url"],
        "BRACES": '{"a": {b}}',
        "EMPTY": "",
        "LINES": "one\ntwo",
        "go": "kept",
        "PASSWORD": "x y'z\"$(w)",
    }


def test_nothing_on_disk_survives_an_end(bench: Bench):
    app = bench.app("import os; print(sorted(os.listdir('.'))); open('left', 'w').close()")
    bench.runtime.start(spec(FIRST, app))
    assert ended(bench.runtime, FIRST).tail == "[]"
    bench.runtime.start(spec(FIRST, app))
    eventually(lambda: list(bench.runtime.logs(FIRST)) == ["[]", "[]"])


def test_standard_input_is_empty(bench: Bench):
    bench.runtime.start(spec(FIRST, bench.app("import sys; print(repr(sys.stdin.read()))")))
    assert ended(bench.runtime, FIRST).tail == "''"


# --- why it does not run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise SystemExit(3)", "exited with code 3"),
        ("pass", "exited with code 0"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11 (SIGSEGV)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "for lack of memory"),
    ],
)
def test_an_end_is_explained_in_words(bench: Bench, source: str, said: str):
    bench.runtime.start(spec(FIRST, bench.app(f"print('last words')\n{source}")))
    seen = ended(bench.runtime, FIRST)
    assert said in seen.message
    assert seen.tail == "last words"
    assert seen.address is None


def test_a_program_that_cannot_run_is_refused_for_good(bench: Bench):
    app = replace(bench.app(SERVER), command=("./missing",), directory=str(bench.folder))
    with pytest.raises(PermanentError, match="not found"):
        bench.runtime.start(spec(FIRST, app))
    assert bench.runtime.observe(FIRST).life is Life.ABSENT


def test_an_ended_activation_starts_again(bench: Bench):
    bench.runtime.start(spec(FIRST, bench.app("raise SystemExit(1)")))
    ended(bench.runtime, FIRST)
    bench.runtime.start(spec(FIRST, bench.app(SERVER)))
    running(bench.runtime, FIRST)


# --- stop, and never again --------------------------------------------------------------------------------------------


def test_a_stopped_activation_is_gone_and_stays_gone(bench: Bench):
    app = bench.app(SERVER)
    bench.runtime.start(spec(FIRST, app))
    address = running(bench.runtime, FIRST).address
    assert address
    bench.another().stop(FIRST, grace=10)
    assert bench.runtime.observe(FIRST).life is Life.EXITED
    assert not serves(address)
    with pytest.raises(StaleGenerationError):
        bench.runtime.start(spec(FIRST, app))
    assert bench.runtime.observe(FIRST).reason == "stopped"


def test_stopping_twice_and_stopping_nothing_is_fine(bench: Bench):
    bench.runtime.stop(FIRST, grace=1)
    bench.runtime.stop(FIRST, grace=1)
    bench.runtime.start(spec(SECOND, bench.app(SERVER)))
    bench.runtime.stop(SECOND, grace=10)
    bench.runtime.stop(SECOND, grace=10)
    assert bench.runtime.observe(SECOND).life is Life.EXITED


def test_a_stop_before_the_start_wins(bench: Bench):
    bench.runtime.stop(FIRST, grace=1)
    with pytest.raises(StaleGenerationError):
        bench.another().start(spec(FIRST, bench.app(SERVER)))
    assert bench.runtime.observe(FIRST).life is Life.ABSENT


def test_no_older_generation_starts_after_a_stop(bench: Bench):
    app = bench.app(SERVER)
    bench.runtime.stop(replace(FIRST, generation=12), grace=1)
    for generation in (1, 9, 11, 12):
        with pytest.raises(StaleGenerationError):
            bench.runtime.start(spec(replace(FIRST, generation=generation), app))
    bench.runtime.start(spec(replace(FIRST, generation=13), app))


def test_no_older_generation_starts_after_a_newer_one(bench: Bench):
    app = bench.app(SERVER)
    bench.runtime.start(spec(SECOND, app))
    with pytest.raises(StaleGenerationError):
        bench.runtime.start(spec(FIRST, app))


def test_an_ended_older_generation_does_not_start_beside_a_newer_one(bench: Bench):
    bench.runtime.start(spec(FIRST, bench.app("pass")))
    ended(bench.runtime, FIRST)
    bench.runtime.start(spec(SECOND, bench.app(SERVER)))
    with pytest.raises(StaleGenerationError):
        bench.runtime.start(spec(FIRST, bench.app(SERVER)))


def test_two_generations_never_run_at_once(bench: Bench):
    app = bench.app(SERVER)
    bench.runtime.start(spec(FIRST, app))
    running(bench.runtime, FIRST)
    with pytest.raises(TemporaryError, match="generation 1 still runs"):
        bench.runtime.start(spec(SECOND, app))
    bench.runtime.stop(FIRST, grace=10)
    bench.runtime.start(spec(SECOND, app))
    running(bench.runtime, SECOND)


def test_workspaces_do_not_stand_in_each_others_way(bench: Bench):
    app = bench.app(SERVER)
    other = replace(FIRST, workspace_id="z9")
    bench.runtime.start(spec(FIRST, app))
    bench.runtime.start(spec(other, app))
    seen = {running(bench.runtime, ref).address for ref in (FIRST, other)}
    assert len(seen) == 2
    bench.runtime.stop(FIRST, grace=10)
    running(bench.runtime, other)


def test_who_ignores_the_request_to_end_is_killed_after_the_grace(bench: Bench):
    source = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    bench.runtime.start(spec(FIRST, bench.app(source + SERVER)))
    running(bench.runtime, FIRST)
    bench.runtime.stop(FIRST, grace=0.1)
    seen = bench.runtime.observe(FIRST)
    assert (seen.life, seen.reason) == (Life.EXITED, "killed")


def test_who_ends_when_asked_may_finish(bench: Bench):
    source = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('goodbye'), sys.exit(0)))\n"
    bench.runtime.start(spec(FIRST, bench.app(source + SERVER)))
    running(bench.runtime, FIRST)
    bench.runtime.stop(FIRST, grace=20)
    assert list(bench.runtime.logs(FIRST)) == ["goodbye"]
    assert bench.runtime.observe(FIRST).reason == "stopped"


# --- remove -----------------------------------------------------------------------------------------------------------


def test_what_runs_is_not_removed(bench: Bench):
    bench.runtime.start(spec(FIRST, bench.app(SERVER)))
    assert not bench.runtime.remove(FIRST)
    running(bench.runtime, FIRST)


def test_after_remove_nothing_is_left_and_it_never_starts_again(bench: Bench):
    app = bench.app("pass")
    bench.runtime.start(spec(FIRST, app))
    ended(bench.runtime, FIRST)
    assert bench.runtime.remove(FIRST)
    assert bench.runtime.remove(FIRST)
    assert list(bench.runtime.inventory()) == []
    assert bench.runtime.observe(FIRST) == RuntimeObservation(Life.ABSENT)
    with pytest.raises(StaleGenerationError):
        bench.runtime.start(spec(FIRST, app))


# --- output -----------------------------------------------------------------------------------------------------------


def test_output_is_followed_until_the_end(bench: Bench):
    source = """
        import sys, time, os
        print('one')
        while not os.path.exists({gate!r}):
            time.sleep(0.01)
        print('two', file=sys.stderr)
        sys.stdout.write('no newline at the end')
        """
    gate = bench.folder / "gate"
    bench.runtime.start(spec(FIRST, bench.app(source.format(gate=os.fspath(gate)))))
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(bench.runtime.logs(FIRST, follow=True)))
    reader.start()
    eventually(lambda: list(bench.runtime.logs(FIRST)) == ["one"])
    gate.touch()
    reader.join(20)
    assert lines == ["one", "two", "no newline at the end"]


def test_a_follower_who_leaves_is_not_kept_by_silence(bench: Bench):
    bench.runtime.start(spec(FIRST, bench.app("import time\nprint('one')\ntime.sleep(600)")))
    eventually(lambda: list(bench.runtime.logs(FIRST)) == ["one"])
    leaving = threading.Event()
    lines: list[str] = []
    reader = threading.Thread(
        target=lambda: lines.extend(bench.runtime.logs(FIRST, follow=True, leaving=leaving.is_set))
    )
    reader.start()
    reader.join(0.3)
    assert reader.is_alive()
    leaving.set()
    reader.join(20)
    assert not reader.is_alive()
    assert lines == ["one"]
    assert bench.runtime.observe(FIRST).life is Life.RUNNING


def test_a_megabyte_without_newline_is_given_out_in_pieces(bench: Bench):
    bench.runtime.start(spec(FIRST, bench.app("import sys; sys.stdout.write('x' * 1_000_000)")))
    seen = ended(bench.runtime, FIRST)
    assert len(seen.tail) <= 10_000
    lines = list(bench.runtime.logs(FIRST))
    assert max(map(len, lines)) <= 20_000
    assert sum(map(len, lines)) == 1_000_000


def test_no_control_sequence_reaches_a_reader(bench: Bench):
    bench.runtime.start(spec(FIRST, bench.app(r"print('\x1b[31mred\x1b[0m \x07\x00bell \x9b caf\xe9')")))
    assert ended(bench.runtime, FIRST).tail == "red bell  café"
    assert list(bench.runtime.logs(FIRST)) == ["red bell  café"]
