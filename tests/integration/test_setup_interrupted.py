"""tools/setup.py when it fails, is killed, is started twice, is moved, or may not write."""

import os
import signal
import subprocess
from collections.abc import Iterator
from types import ModuleType

import pytest

from support.small_clone import NO_PACKAGES, PINS, Clone

pytest_plugins = ["support.small_clone"]


def test_a_failure_before_anything_was_changed_keeps_what_is_there(clone: Clone) -> None:
    clone.run()
    (clone.root / "requirements/local.txt").write_text(PINS + "# another\n")

    failed = clone.run(PIP_FAILS="early", PIP_SAYS_EARLY="ERROR: Failed to establish a new connection: no route\n")

    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert line.startswith("setup: pip failed: the package index cannot be reached: check the network")
    assert clone.stamp()
    assert "making .venv anew" not in clone.run().stdout


def test_a_failure_in_the_middle_leads_to_a_new_environment(clone: Clone) -> None:
    failed = clone.run(PIP_FAILS="late")
    assert failed.returncode == 1
    assert failed.stderr.startswith("setup: pip failed: the disk is full: free about 1 GB")
    assert clone.stamp() == {}

    left_over = clone.venv / "left-over"
    left_over.touch()

    again = clone.run(**NO_PACKAGES)
    assert "making .venv anew: an installation was cut short" in again.stdout
    assert not left_over.exists()


@pytest.mark.parametrize("victim", ["setup", "everything"])
def test_killed_in_the_middle_it_starts_anew(clone: Clone, victim: str) -> None:
    process = clone.hold()

    if victim == "everything":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()  # pip goes on without us
    process.communicate()
    clone.let_go()

    again = clone.run(**NO_PACKAGES)
    assert "making .venv anew: an installation was cut short" in again.stdout
    assert clone.stamp() == {}


@pytest.mark.parametrize(
    ("said", "whole"),
    [("Collecting two", True), ("Installing collected packages: two", False), ("Resolved 2 packages in 1ms", False)],
)
def test_interrupted_it_is_whole_only_if_nothing_was_changed_yet(
    clone: Clone, setup_py: ModuleType, said: str, whole: bool
) -> None:
    """That it resolved is all that uv says which has kept what it would download."""
    assert clone.run().returncode == 0
    before = clone.stamp()

    def lines() -> Iterator[str]:
        yield said
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(setup_py.Stamp(clone.venv).change(lines(), {"local": "new"}))

    assert clone.stamp() == (before if whole else {})
    assert setup_py.why_not_usable(clone.venv, None) == (None if whole else "an installation was cut short")


def test_the_lock_outlives_a_killed_set_up_until_its_pip_is_gone(clone: Clone) -> None:
    first = clone.hold()
    first.kill()
    first.wait()

    second = clone.start(NO_PACKAGES)
    assert second.stdout
    assert "another set-up is at work in this clone; waiting for it" in second.stdout.readline()
    assert (clone.venv / "innkeeper-setup.underway").exists()
    clone.let_go()
    assert "making .venv anew: an installation was cut short" in second.communicate()[0]
    first.communicate()


def test_two_at_once_install_once(clone: Clone) -> None:
    first = clone.hold()
    second = clone.start()
    assert second.stdout
    assert "another set-up is at work in this clone; waiting for it" in second.stdout.readline()
    clone.let_go()

    assert "done" in first.communicate()[0]
    assert second.communicate()[0] == ""
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(clone.calls()) == 2


def test_a_moved_clone_gets_a_new_environment(clone: Clone) -> None:
    clone.run()
    moved = clone.root.rename(clone.root.with_name("moved"))

    done = subprocess.run(
        ["sh", "tools/python.sh", "local"],
        cwd=moved,
        env=clone.environment(NO_PACKAGES),
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"making .venv anew: it was made in {clone.root}" in done.stdout


def test_a_directory_that_cannot_be_written_is_named(clone: Clone, setup_py: ModuleType) -> None:
    (clone.root / ".venv.lock").mkdir()

    with (
        pytest.raises(setup_py.SetupError, match=r"cannot write in .*: the clone must belong to you"),
        setup_py.only_one(clone.root),
    ):
        pass
