"""tools/setup.py: what it installs, with what, and when again."""

from pathlib import Path

import pytest

from support.small_clone import PINS, UV_PIN, Clone, put_uv

pytest_plugins = ["support.small_clone"]


def test_installs_the_pins_and_then_the_package_and_then_has_nothing_to_do(clone: Clone) -> None:
    first = clone.run()
    assert first.returncode == 0, first.stderr
    assert "installing 2 pinned packages (what `make dev` needs)" in first.stdout

    pinned, package = clone.calls()
    assert "--require-hashes --only-binary=:all: --requirement" in pinned
    assert "--no-build-isolation --editable" in package

    second = clone.run()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert len(clone.calls()) == 2


def test_uv_installs_what_it_can_and_is_told_what_pip_was_told(clone: Clone) -> None:
    put_uv(clone)
    told = (
        "global.index-url='https://a.example/simple'\nglobal.extra-index-url='\\nhttps://b.example\\nhttps://c.example'"
    )

    done = clone.run(PIP_TOLD=told)

    assert done.returncode == 0, done.stderr
    assert "  fetching 2 ...\n  Downloading two (10.0MiB)\n  unpacking 2 ...\n" in done.stdout
    assert clone.calls() == [], "the uv that is pinned is there already"
    pinned, package = (clone.root / "uv.calls").read_text().splitlines()
    assert "--no-deps --no-config --require-hashes --only-binary=:all: --requirement" in pinned
    assert "--no-deps --no-config --offline --reinstall --no-build-isolation --editable" in package
    said = (clone.root / "uv.told").read_text().splitlines()
    assert {"UV_DEFAULT_INDEX=https://a.example/simple", "UV_INDEX=https://b.example https://c.example"} <= set(said)
    assert clone.run().stdout == ""


def test_pip_brings_the_uv_that_is_pinned(clone: Clone) -> None:
    put_uv(clone)
    assert clone.run(UV_IS="0.13.8").returncode == 0

    (only,) = clone.calls()
    assert "--no-deps --no-compile --progress-bar=off --require-hashes --only-binary=:all: --requirement" in only
    assert Path(only.split()[-1]).read_text() == UV_PIN.partition("zoo")[0]


@pytest.mark.parametrize(("when", "anew"), [("early", False), ("late", True)])
def test_what_uv_does_not_bring_to_an_end_pip_does(clone: Clone, when: str, anew: bool) -> None:
    put_uv(clone)
    left_half_way = clone.venv / "left-half-way"
    left_half_way.touch()

    done = clone.run(UV_FAILS=when)

    assert done.returncode == 0, done.stderr
    assert "uv did not come to its end; going on with pip" in done.stdout
    everything, package = clone.calls()
    assert everything.endswith("requirements/local.txt")
    assert "--no-build-isolation --editable" in package
    assert left_half_way.exists() is not anew, "pip would take it for installed"
    assert clone.stamp()


def test_a_pip_with_settings_that_uv_does_not_know_does_all_itself(clone: Clone) -> None:
    put_uv(clone)
    assert clone.run(PIP_TOLD="global.client-cert='/x.pem'").returncode == 0
    assert not (clone.root / "uv.calls").exists()


def test_settings_that_say_nothing_of_where_packages_come_from_keep_nobody_from_uv(clone: Clone) -> None:
    put_uv(clone)
    assert clone.run(PIP_TOLD="global.break-system-packages='true'\nglobal.require-virtualenv='true'").returncode == 0
    assert clone.calls() == []


def test_where_uv_and_pip_fail_it_is_pips_reason_that_is_said(clone: Clone) -> None:
    put_uv(clone)
    failed = clone.run(UV_FAILS="early", PIP_FAILS="late")
    assert failed.stderr.startswith("setup: pip failed: the disk is full: free about 1 GB")


def test_dev_contains_local_but_not_the_reverse(clone: Clone) -> None:
    clone.run("local")
    clone.run("dev")
    assert len(clone.calls()) == 4

    clone.run("local")
    clone.run("dev")
    assert len(clone.calls()) == 4


def test_a_new_lock_is_installed_and_a_new_entry_point_too(clone: Clone) -> None:
    clone.run()
    (clone.root / "requirements/local.txt").write_text(PINS + "three==3 \\\n    --hash=sha256:00\n")
    assert "installing 3 pinned packages" in clone.run().stdout
    assert len(clone.calls()) == 4

    project = clone.root / "pyproject.toml"
    project.write_text(project.read_text().replace("a = 1", "a = 2"))
    assert clone.run().stdout == ""

    project.write_text(project.read_text().replace('"x"', '"y"'))
    assert "pinned packages" not in clone.run().stdout
    assert len(clone.calls()) == 5
