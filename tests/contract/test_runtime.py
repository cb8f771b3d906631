"""What every Runtime promises. Implementations: processes of this machine, and containers of a real Kubernetes."""

import json
import secrets
import socket
import textwrap
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from innkeeper.adapters.http_health import HttpHealth
from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.model.app import App, SecretSpec
from innkeeper.model.errors import PermanentError, StaleGenerationError, TemporaryError
from innkeeper.model.observed import Life, RuntimeObservation
from innkeeper.model.workspace import ActivationRef, Address
from innkeeper.ports import ActivationSpec, Runtime
from support.activations import SERVER, VALUES, program
from support.activations import spec as activation_spec
from support.kubernetes import KUBERNETES_VALUES, PYTHON_IMAGE, Pods
from support.loopback_only import also_reachable
from support.pods import PATIENCE
from support.waiting import eventually


class Bench(ABC):
    """A runtime, as one worker holds it, how another worker gets at the same, and what it runs."""

    runtime: Runtime
    first: ActivationRef
    has_service: bool
    """Whether it gives an activation an address that stays when its process changes."""
    prepares: bool
    """Whether a start can have a head start here."""

    @property
    def second(self) -> ActivationRef:
        return replace(self.first, generation=2)

    @abstractmethod
    def another(self) -> Runtime: ...

    @abstractmethod
    def app(self, source: str, **env: str) -> App:
        """A Python program. It starts in a directory that it may write to."""

    @abstractmethod
    def broken(self) -> tuple[App, str]:
        """One that this runtime sees at once cannot run, and how it says so."""

    @abstractmethod
    def platform(self, environment: Mapping[str, str]) -> list[str]:
        """Which variables of a process the spec did not ask for and nobody can prevent here."""

    def spec(self, ref: ActivationRef, app: App, *, secrets: dict[str, str] | None = None) -> ActivationSpec:
        return activation_spec(ref, app, secrets=secrets)

    def removed(self, ref: ActivationRef) -> None:
        """What has ended is removed at once."""
        assert self.runtime.remove(ref)


@dataclass(frozen=True)
class Processes(Bench):
    folder: Path
    runtime: Runtime
    first: ActivationRef = field(default_factory=lambda: ActivationRef("a1b2c3", 1))
    has_service: bool = False
    prepares: bool = False

    def another(self) -> Runtime:
        return LocalRuntime(self.folder / "runtime")

    def app(self, source: str, **env: str) -> App:
        return program(self.folder, source, env=env or None)

    def broken(self) -> tuple[App, str]:
        return replace(self.app(SERVER), command=("./missing",), directory=str(self.folder)), "not found"

    def platform(self, environment: Mapping[str, str]) -> list[str]:
        # Python's own addition where no locale is set (PEP 538).
        return [name for name in environment if name == "LC_CTYPE"]


@dataclass(frozen=True)
class Containers(Bench):
    """An image's entry point runs with the spec's ``args``, not ``command``; the root file system is read-only."""

    pods: Pods
    runtime: Runtime
    first: ActivationRef = field(default_factory=lambda: ActivationRef(f"t{secrets.token_hex(4)}", 1))
    has_service: bool = True
    prepares: bool = True

    def another(self) -> Runtime:
        return self.pods.runtime()

    def app(self, source: str, **env: str) -> App:
        arguments = ("python3", "-ISu", "-c", "import os; os.chdir('/work')\n" + textwrap.dedent(source))
        env = env or {"PORT": "{port}", "HOST": "{host}"}
        return App("program", "1", image=PYTHON_IMAGE, args=arguments, env=env, writable=("/work",))

    def broken(self) -> tuple[App, str]:
        # Whether an image is there and what is in it shows later.
        return replace(self.app(SERVER), image=""), "no image"

    def platform(self, environment: Mapping[str, str]) -> list[str]:
        # The container runtime's (PATH, HOME and HOSTNAME), and where the API server is: Kubernetes always says that.
        given = {"LC_CTYPE", "PATH", "HOME", "HOSTNAME"}
        return [name for name in environment if name in given or name.startswith("KUBERNETES_")]

    def spec(self, ref: ActivationRef, app: App, *, secrets: dict[str, str] | None = None) -> ActivationSpec:
        return activation_spec(ref, app, values=KUBERNETES_VALUES, secrets=secrets)

    def removed(self, ref: ActivationRef) -> None:
        """A cluster takes its time to take objects away."""
        eventually(lambda: self.runtime.remove(ref), timeout=PATIENCE)


@pytest.fixture(params=["processes", pytest.param("kubernetes", marks=pytest.mark.cluster)])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "kubernetes":
        pods: Pods = request.getfixturevalue("pods")
        yield Containers(pods, pods.runtime())
        return
    bench = Processes(tmp_path, LocalRuntime(tmp_path / "runtime"))
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

    seen = eventually(look, timeout=PATIENCE, describe=lambda: runtime.observe(ref))
    assert seen
    return seen


def ended(runtime: Runtime, ref: ActivationRef) -> RuntimeObservation:
    eventually(
        lambda: runtime.observe(ref).life is Life.EXITED, timeout=PATIENCE, describe=lambda: runtime.observe(ref)
    )
    return runtime.observe(ref)


def output(runtime: Runtime, ref: ActivationRef) -> list[str]:
    """What it wrote, once anything has arrived: from a container that takes longer than its answer to a request."""
    return eventually(lambda: list(runtime.logs(ref)), timeout=PATIENCE)


# --- start and observe ------------------------------------------------------------------------------------------------


def test_nothing_is_absent(bench: Bench):
    assert bench.runtime.observe(bench.first) == RuntimeObservation(Life.ABSENT)
    assert list(bench.runtime.inventory()) == []
    assert list(bench.runtime.logs(bench.first)) == []


def test_a_started_activation_answers_at_its_address(bench: Bench):
    bench.runtime.start(bench.spec(bench.first, bench.app(SERVER)))
    seen = running(bench.runtime, bench.first)
    assert seen.life is Life.RUNNING
    assert list(bench.runtime.inventory()) == [bench.first]
    assert bench.another().observe(bench.first) == seen


def test_starting_twice_starts_once(bench: Bench):
    app = bench.app(SERVER)
    service = bench.runtime.start(bench.spec(bench.first, app))
    seen = running(bench.runtime, bench.first)
    assert bench.another().start(bench.spec(bench.first, app)) == service
    assert bench.runtime.observe(bench.first) == seen


def test_what_start_returns_leads_to_the_activation_and_to_no_other(bench: Bench):
    service = bench.runtime.start(bench.spec(bench.first, bench.app(SERVER)))
    seen = running(bench.runtime, bench.first)
    assert (service is not None) == bench.has_service
    if service is None:
        return
    assert seen.address is not None
    assert (service.ip != seen.address.ip, service.port) == (True, seen.address.port)
    with also_reachable(f"{service.ip}/32"):  # the node's own rules answer for it while the Service is there
        eventually(lambda: serves(service), timeout=PATIENCE)
        # It is the activation's, not the pod's: a next generation has another.
        bench.runtime.stop(bench.first, grace=0)
        assert bench.runtime.start(bench.spec(bench.second, bench.app(SERVER))) not in (None, service)
        assert not serves(service)


def test_all_who_start_at_once_start_once(bench: Bench):
    app = bench.app("print('started')\n" + SERVER)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: bench.another().start(bench.spec(bench.first, app)), range(32)))
    running(bench.runtime, bench.first)
    assert output(bench.runtime, bench.first) == ["started"]


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
    bench.runtime.start(bench.spec(bench.first, app, secrets={"PASSWORD": "x y'z\"$(w)"}))
    ended(bench.runtime, bench.first)
    environment = json.loads("".join(bench.runtime.logs(bench.first)))
    for name in bench.platform(environment):
        del environment[name]
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
    source = "import os, time; print(sorted(os.listdir('.'))); open('left', 'w').close()\n"
    bench.runtime.start(bench.spec(bench.first, bench.app(source)))
    assert ended(bench.runtime, bench.first).tail == "[]"
    # The second one stays: it might be started once more by itself, where it left off.
    bench.runtime.start(bench.spec(bench.first, bench.app(f"{source}time.sleep(600)")))
    logs: list[str] = []

    def both() -> bool:
        logs[:] = bench.runtime.logs(bench.first)
        return len(logs) > 1

    eventually(both, timeout=PATIENCE, describe=lambda: (logs, bench.runtime.observe(bench.first)))
    assert logs == ["[]", "[]"]


def test_standard_input_is_empty(bench: Bench):
    bench.runtime.start(bench.spec(bench.first, bench.app("import sys; print(repr(sys.stdin.read()))")))
    assert ended(bench.runtime, bench.first).tail == "''"


# --- a head start -----------------------------------------------------------------------------------------------------


def test_what_was_prepared_does_not_run_until_it_is_started(bench: Bench):
    app = bench.app("print('started')\n" + SERVER)
    bench.runtime.prepare(bench.spec(bench.first, app))
    assert list(bench.runtime.inventory()) == ([bench.first] if bench.prepares else [])
    assert bench.runtime.observe(bench.first) == RuntimeObservation(Life.ABSENT)
    assert list(bench.runtime.logs(bench.first)) == []
    service = bench.runtime.start(bench.spec(bench.first, app))
    assert (service is not None) == bench.has_service
    running(bench.runtime, bench.first)
    assert output(bench.runtime, bench.first) == ["started"]


def test_a_start_finds_its_way_whoever_prepared_it_and_how_often(bench: Bench):
    app = bench.app("print('started')\n" + SERVER)
    spec = bench.spec(bench.first, app)
    other = bench.another()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda runtime: runtime.prepare(spec), [bench.runtime, other] * 4))
    service = other.start(spec)
    bench.another().prepare(spec)  # somebody who is late
    assert bench.runtime.start(spec) == bench.another().start(spec) == service
    running(bench.runtime, bench.first)
    assert output(bench.runtime, bench.first) == ["started"]


def test_what_was_prepared_and_never_started_goes_without_a_trace(bench: Bench):
    bench.runtime.prepare(bench.spec(bench.first, bench.app(SERVER)))
    bench.another().stop(bench.first, grace=1)
    bench.removed(bench.first)
    assert list(bench.runtime.inventory()) == []
    assert bench.runtime.observe(bench.first) == RuntimeObservation(Life.ABSENT)


@pytest.mark.parametrize("removed", [False, True])
def test_a_stop_between_preparing_and_starting_wins(bench: Bench, removed: bool):
    spec = bench.spec(bench.first, bench.app(SERVER))
    bench.runtime.prepare(spec)
    bench.another().stop(bench.first, grace=1)
    if removed:
        bench.removed(bench.first)
    for runtime in (bench.runtime, bench.runtime, bench.another()):
        with pytest.raises(StaleGenerationError):
            runtime.start(spec)
    assert bench.runtime.observe(bench.first).life in {Life.ABSENT, Life.EXITED}
    bench.removed(bench.first)
    assert list(bench.runtime.inventory()) == []


def test_what_was_stopped_or_followed_is_not_prepared_again(bench: Bench):
    app = bench.app(SERVER)
    bench.runtime.stop(bench.first, grace=1)
    bench.runtime.start(bench.spec(bench.second, app))
    with pytest.raises(StaleGenerationError) if bench.prepares else nullcontext():
        bench.runtime.prepare(bench.spec(bench.first, app))
    eventually(lambda: list(bench.runtime.inventory()) == [bench.second], timeout=PATIENCE)
    # The control: what runs is not disturbed by being prepared.
    seen = running(bench.runtime, bench.second)
    bench.another().prepare(bench.spec(bench.second, app))
    assert running(bench.runtime, bench.second) == seen


def test_nothing_is_prepared_beside_an_older_generation_that_runs(bench: Bench):
    app = bench.app(SERVER)
    bench.runtime.start(bench.spec(bench.first, app))
    running(bench.runtime, bench.first)
    with pytest.raises(TemporaryError, match="generation 1 still runs") if bench.prepares else nullcontext():
        bench.runtime.prepare(bench.spec(bench.second, app))
    with pytest.raises(TemporaryError, match="generation 1 still runs"):
        bench.runtime.start(bench.spec(bench.second, app))
    bench.runtime.stop(bench.first, grace=10)
    bench.runtime.prepare(bench.spec(bench.second, app))
    bench.runtime.start(bench.spec(bench.second, app))
    running(bench.runtime, bench.second)


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
    bench.runtime.start(bench.spec(bench.first, bench.app(f"print('last words')\n{source}")))
    seen = ended(bench.runtime, bench.first)
    assert said in seen.message
    assert seen.tail == "last words"
    assert seen.address is None


def test_a_program_that_cannot_run_is_refused_for_good(bench: Bench):
    app, why = bench.broken()
    with pytest.raises(PermanentError, match=why):
        bench.runtime.start(bench.spec(bench.first, app))
    assert bench.runtime.observe(bench.first).life is Life.ABSENT


def test_an_ended_activation_starts_again(bench: Bench):
    bench.runtime.start(bench.spec(bench.first, bench.app("raise SystemExit(1)")))
    ended(bench.runtime, bench.first)
    bench.runtime.start(bench.spec(bench.first, bench.app(SERVER)))
    running(bench.runtime, bench.first)


# --- stop, and never again --------------------------------------------------------------------------------------------


def test_a_stopped_activation_is_gone_and_stays_gone(bench: Bench):
    app = bench.app(SERVER)
    bench.runtime.start(bench.spec(bench.first, app))
    address = running(bench.runtime, bench.first).address
    assert address
    bench.another().stop(bench.first, grace=10)
    assert bench.runtime.observe(bench.first).life is Life.EXITED
    assert not serves(address)
    with pytest.raises(StaleGenerationError):
        bench.runtime.start(bench.spec(bench.first, app))
    assert bench.runtime.observe(bench.first).reason == "stopped"


def test_stopping_twice_and_stopping_nothing_is_fine(bench: Bench):
    bench.runtime.stop(bench.first, grace=1)
    bench.runtime.stop(bench.first, grace=1)
    bench.runtime.start(bench.spec(bench.second, bench.app(SERVER)))
    bench.runtime.stop(bench.second, grace=10)
    bench.runtime.stop(bench.second, grace=10)
    assert bench.runtime.observe(bench.second).life is Life.EXITED


def test_a_stop_before_the_start_wins(bench: Bench):
    bench.runtime.stop(bench.first, grace=1)
    with pytest.raises(StaleGenerationError):
        bench.another().start(bench.spec(bench.first, bench.app(SERVER)))
    assert bench.runtime.observe(bench.first).life is Life.ABSENT


def test_no_older_generation_starts_after_a_stop(bench: Bench):
    app = bench.app(SERVER)
    bench.runtime.stop(replace(bench.first, generation=12), grace=1)
    for generation in (1, 9, 11, 12):
        with pytest.raises(StaleGenerationError):
            bench.runtime.start(bench.spec(replace(bench.first, generation=generation), app))
    bench.runtime.start(bench.spec(replace(bench.first, generation=13), app))


def test_no_older_generation_starts_after_a_newer_one(bench: Bench):
    app = bench.app(SERVER)
    bench.runtime.start(bench.spec(bench.second, app))
    with pytest.raises(StaleGenerationError):
        bench.runtime.start(bench.spec(bench.first, app))


def test_an_ended_older_generation_does_not_start_beside_a_newer_one(bench: Bench):
    bench.runtime.start(bench.spec(bench.first, bench.app("pass")))
    ended(bench.runtime, bench.first)
    bench.runtime.start(bench.spec(bench.second, bench.app(SERVER)))
    with pytest.raises(StaleGenerationError):
        bench.runtime.start(bench.spec(bench.first, bench.app(SERVER)))


def test_two_generations_never_run_at_once(bench: Bench):
    app = bench.app(SERVER)
    bench.runtime.start(bench.spec(bench.first, app))
    running(bench.runtime, bench.first)
    with pytest.raises(TemporaryError, match="generation 1 still runs"):
        bench.runtime.start(bench.spec(bench.second, app))
    bench.runtime.stop(bench.first, grace=10)
    bench.runtime.start(bench.spec(bench.second, app))
    running(bench.runtime, bench.second)


def test_workspaces_do_not_stand_in_each_others_way(bench: Bench):
    app = bench.app(SERVER)
    other = replace(bench.first, workspace_id=bench.first.workspace_id + "z9")
    bench.runtime.start(bench.spec(bench.first, app))
    bench.runtime.start(bench.spec(other, app))
    seen = {running(bench.runtime, ref).address for ref in (bench.first, other)}
    assert len(seen) == 2
    bench.runtime.stop(bench.first, grace=10)
    running(bench.runtime, other)


def test_who_ignores_the_request_to_end_is_killed_after_the_grace(bench: Bench):
    source = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    bench.runtime.start(bench.spec(bench.first, bench.app(source + SERVER)))
    running(bench.runtime, bench.first)
    bench.runtime.stop(bench.first, grace=0.1)
    seen = bench.runtime.observe(bench.first)
    assert (seen.life, seen.reason) == (Life.EXITED, "killed")


def test_who_ends_when_asked_may_finish(bench: Bench):
    source = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('goodbye'), sys.exit(0)))\n"
    bench.runtime.start(bench.spec(bench.first, bench.app(source + SERVER)))
    running(bench.runtime, bench.first)
    bench.runtime.stop(bench.first, grace=20)
    assert list(bench.runtime.logs(bench.first)) == ["goodbye"]
    assert bench.runtime.observe(bench.first).reason == "stopped"


# --- remove -----------------------------------------------------------------------------------------------------------


def test_what_runs_is_not_removed(bench: Bench):
    bench.runtime.start(bench.spec(bench.first, bench.app(SERVER)))
    running(bench.runtime, bench.first)  # a cluster takes a moment to have a pod, and until then nothing runs
    assert not bench.runtime.remove(bench.first)
    running(bench.runtime, bench.first)


def test_after_remove_nothing_is_left_and_it_never_starts_again(bench: Bench):
    app = bench.app("pass")
    bench.runtime.start(bench.spec(bench.first, app))
    ended(bench.runtime, bench.first)
    bench.removed(bench.first)
    assert bench.runtime.remove(bench.first)
    assert list(bench.runtime.inventory()) == []
    assert bench.runtime.observe(bench.first) == RuntimeObservation(Life.ABSENT)
    with pytest.raises(StaleGenerationError):
        bench.runtime.start(bench.spec(bench.first, app))


# --- output -----------------------------------------------------------------------------------------------------------


def test_output_is_followed_until_the_end(bench: Bench):
    # It waits to be told each time: what goes two ways at once may arrive in any order.
    source = """
        import os, socket, sys
        gate = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])))
        def told():
            with gate.accept()[0] as asker:  # a kubelet asks, too
                return asker.recv(1024) == b'go on'
        print('one')
        while not told(): pass
        print('two', file=sys.stderr)
        while not told(): pass
        sys.stdout.write('no newline at the end')
        """
    bench.runtime.start(bench.spec(bench.first, bench.app(source)))
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(bench.runtime.logs(bench.first, follow=True)))
    reader.start()
    for known in (["one"], ["one", "two"]):
        eventually(lambda known=known: lines == known, timeout=PATIENCE, describe=lambda: lines)
        address = eventually(lambda: bench.runtime.observe(bench.first).address, timeout=PATIENCE)
        assert address is not None
        with socket.create_connection((address.ip, address.port)) as asking:
            asking.sendall(b"go on")
    reader.join(PATIENCE)
    assert lines == ["one", "two", "no newline at the end"]


def test_a_follower_who_leaves_is_not_kept_by_silence(bench: Bench):
    bench.runtime.start(bench.spec(bench.first, bench.app("import time\nprint('one')\ntime.sleep(600)")))
    leaving = threading.Event()
    lines: list[str] = []
    reader = threading.Thread(
        target=lambda: lines.extend(bench.runtime.logs(bench.first, follow=True, leaving=leaving.is_set))
    )
    reader.start()
    eventually(lambda: lines == ["one"], timeout=PATIENCE, describe=lambda: lines)
    reader.join(0.3)
    assert reader.is_alive()
    leaving.set()
    reader.join(PATIENCE)
    assert not reader.is_alive()
    assert lines == ["one"]
    assert bench.runtime.observe(bench.first).life is Life.RUNNING


def test_a_megabyte_without_newline_is_given_out_in_pieces(bench: Bench):
    bench.runtime.start(bench.spec(bench.first, bench.app("import sys; sys.stdout.write('x' * 1_000_000)")))
    seen = ended(bench.runtime, bench.first)
    assert len(seen.tail) <= 10_000
    lines = list(bench.runtime.logs(bench.first))
    assert max(map(len, lines)) <= 20_000
    assert sum(map(len, lines)) == 1_000_000


def test_no_control_sequence_reaches_a_reader(bench: Bench):
    bench.runtime.start(bench.spec(bench.first, bench.app(r"print('\x1b[31mred\x1b[0m \x07\x00bell \x9b caf\xe9')")))
    assert ended(bench.runtime, bench.first).tail == "red bell  café"
    assert list(bench.runtime.logs(bench.first)) == ["red bell  café"]
