"""The locked requirements are what pyproject.toml asks for, grow from set to set, and name no machine or index."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]

RUNTIME = PROJECT["project"]["dependencies"]
GROUPS = PROJECT["dependency-groups"]
GATEWAY = [*RUNTIME, *EXTRAS["gateway"]]
EVALUATION = [*RUNTIME, *EXTRAS["evaluation"]]
LOCAL = [*GATEWAY, *EVALUATION, *GROUPS["build"]]
DEV = [*LOCAL, *EXTRAS["dev"]]
ASKED_FOR = {
    "runtime": RUNTIME,
    "gateway": GATEWAY,
    "evaluation": EVALUATION,
    "sample": GROUPS["sample"],
    "build": GROUPS["build"],
    "local": LOCAL,
    "dev": DEV,
}
CONTAINED = [
    ("runtime", "gateway"),
    ("runtime", "evaluation"),
    ("sample", "runtime"),
    ("gateway", "local"),
    ("evaluation", "local"),
    ("build", "local"),
    ("local", "dev"),
]


def text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text()


def locked(name: str) -> list[Requirement]:
    lines = text(name).splitlines()
    return [Requirement(line.removesuffix("\\").strip()) for line in lines if line[:1].isalnum()]


@pytest.mark.parametrize("name", ASKED_FOR)
def test_everything_asked_for_is_pinned_to_a_version_that_satisfies_it(name: str) -> None:
    pins = {pin.name: str(pin.specifier).removeprefix("==") for pin in locked(name)}

    for line in ASKED_FOR[name]:
        wanted = Requirement(line)
        pinned = pins.get(re.sub(r"[-_.]+", "-", wanted.name).lower())
        assert pinned, f"{line} is not in requirements/{name}.txt: make lock"
        assert wanted.specifier.contains(pinned), f"{line} is pinned to {pinned}: make lock"


@pytest.mark.parametrize(("smaller", "larger"), CONTAINED)
def test_each_set_contains_the_smaller_with_the_same_versions(smaller: str, larger: str) -> None:
    versions = {name: {(pin.name, str(pin.specifier)) for pin in locked(name)} for name in (smaller, larger)}
    assert versions[smaller] <= versions[larger]


@pytest.mark.parametrize("name", ASKED_FOR)
def test_every_package_has_hashes(name: str) -> None:
    for entry in re.split(r"\n(?=[a-z0-9])", text(name)):
        if not entry.startswith("#"):
            assert "==" in entry
            assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


@pytest.mark.parametrize("name", ASKED_FOR)
def test_the_lock_names_no_index_and_no_machine(name: str) -> None:
    options = [line for line in text(name).splitlines() if line.startswith("-")]

    assert options == []
    assert not re.search(r"://|/opt|/work|/home|/root|/tmp|find-links|index-url", text(name))
