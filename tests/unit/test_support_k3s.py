"""Whether a K3s of Docker's serves as the tests' cluster, and what the summary says where none does."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from support import k3s
from support.cluster import VARIABLE, missing

HERE, NAMED = "rancher/k3s:v1.2.3-k3s1", "registry.example/k3s:1"


class Docker:
    """An engine as its command answers for it; ``asked`` in order."""

    def __init__(self, *, answers: bool = True, images: str = "") -> None:
        self._answers, self._images = answers, images
        self.asked: list[str] = []

    def __call__(self, *arguments: str) -> tuple[int, str]:
        self.asked.append(arguments[0])
        if not self._answers:
            return 1, "Cannot connect to the Docker daemon\nIs the docker daemon running?"
        return 0, "20.10.24" if arguments[0] == "version" else self._images


@pytest.mark.parametrize(
    ("images", "environ", "chosen"),
    [
        (f"{HERE}\nrancher/k3s:old", {}, HERE),
        (f"rancher/k3s:<none>\n{HERE}", {}, HERE),
        ("", {k3s.VARIABLE: NAMED}, NAMED),
        (HERE, {k3s.VARIABLE: NAMED}, NAMED),
    ],
)
def test_an_image_that_is_there_or_was_named_is_taken(images: str, environ: Mapping[str, str], chosen: str):
    assert k3s.choose(environ, Docker(images=images)) == (chosen, "")


@pytest.mark.parametrize("environ", [{}, {k3s.VARIABLE: NAMED}])
def test_without_an_engine_there_is_none_whatever_was_named(environ: Mapping[str, str]):
    image, why = k3s.choose(environ, Docker(answers=False))
    assert (image, why) == ("", "no Docker engine for a K3s (Is the docker daemon running?)")


def test_nothing_is_pulled_that_nobody_named():
    docker = Docker()
    image, why = k3s.choose({}, docker)
    assert (image, "docker pull rancher/k3s:TAG, or INN_TEST_K3S_IMAGE=IMAGE" in why) == ("", True)
    assert docker.asked == ["version", "image"]


@pytest.mark.parametrize(("there", "word"), [(False, "there is no docker command"), (True, "refused: no engine")])
def test_the_summary_says_of_each_way_to_a_cluster_why_it_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool, word: str
):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("INN_CLUSTER_DIR", str(tmp_path / "none"))
    if there:
        docker = tmp_path / "docker"
        docker.write_text("#!/bin/sh\necho 'refused: no engine' >&2\nexit 1\n")
        docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + (os.pathsep + "/bin" if there else ""))
    said = missing()
    assert said.startswith("no Kubernetes: make cluster")
    assert VARIABLE in said
    assert word in said
