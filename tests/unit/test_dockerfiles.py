"""The Dockerfiles: no root, no tag that moves, only hashed packages, and only what `make images` puts before them."""

import re
from pathlib import Path

import pytest
import yaml
from tools.image_build.catalogue import FOLDER, IMAGES, Image

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / FOLDER).rglob("Dockerfile*"))
FOR_PEOPLE = [path for path in DOCKERFILES if path.parent.name != "base"]


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and arguments, with continued lines joined and comments gone."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word.upper(), " ".join(rest.split()))
        for word, _, rest in (line.partition(" ") for line in joined.split("\n"))
        if word
    ]


def stages(path: Path) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions(path):
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest))
    return found


def names(path: Path) -> dict[str, list[tuple[str, str]]]:
    return {stage[0][1].split()[-1]: stage for stage in stages(path)}


def user(path: Path, stage: list[tuple[str, str]]) -> str | None:
    """As whom a stage's containers run, looked up through the stages it is built on."""
    users = [rest for word, rest in stage if word == "USER"]
    if users:
        return users[-1]
    parent = names(path).get(stage[0][1].split()[0])
    return user(path, parent) if parent is not None else None


def test_there_are_dockerfiles() -> None:
    assert len(DOCKERFILES) >= 6


@pytest.mark.parametrize("path", FOR_PEOPLE, ids=lambda path: str(path.relative_to(ROOT / FOLDER)))
def test_nothing_runs_as_root(path: Path) -> None:
    targets = {image.target for image in IMAGES if ROOT / image.dockerfile == path} - {None}
    final = [names(path)[target] for target in targets if target] or [stages(path)[-1]]
    for stage in final:
        # A number: Kubernetes refuses a name under runAsNonRoot.
        assert user(path, stage) == "10001:10001"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT / FOLDER)))
def test_what_it_is_built_on_has_a_tag_that_means_something(path: Path) -> None:
    known = {"scratch", *names(path)}
    arguments = {rest.partition("=")[0]: rest.partition("=")[2] for word, rest in instructions(path) if word == "ARG"}
    for stage in stages(path):
        image = stage[0][1].split()[0]
        image = arguments.get(image.strip("${}"), image)
        if image not in known:
            assert re.fullmatch(r"[a-z0-9./-]+:[a-z0-9.-]+", image), image
            assert not image.endswith(":latest"), image


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT / FOLDER)))
def test_packages_are_pinned_and_commands_are_no_shell_lines(path: Path) -> None:
    for word, rest in instructions(path):
        if word in {"ENTRYPOINT", "CMD"}:
            assert rest.startswith("["), "a shell in between does not pass signals on"
        if word == "ADD":
            assert path.parent.name == "base"
        if word == "RUN" and " install " in rest and "/dist/*.whl" not in rest and "go install" not in rest:
            assert {"--require-hashes", "--no-deps"} <= set(rest.split()), rest
        assert not re.search(r"curl|wget|apt-get|sudo|--trusted-host|https?://", rest), rest


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_the_catalogue_stages_what_a_dockerfile_copies(image: Image) -> None:
    staged = {*image.copied, *(f"requirements/{name}.txt" for name, _ in image.packages)}
    copied: set[str] = set()
    for word, rest in instructions(ROOT / image.dockerfile):
        if word == "COPY" and not rest.startswith("--from="):
            copied |= set(rest.split()[:-1])
    sets = {match[1] for source in copied if (match := re.fullmatch(r"wheel\[s\]/([a-z]+)/\*", source))}
    assert sets == {name for name, _ in image.packages}
    assert {source for source in copied if not source.startswith("wheel[s]")} == staged


def test_versions_are_those_of_the_applications() -> None:
    tags = {image.name: image.tags for image in IMAGES}
    miniflux = yaml.safe_load((ROOT / "examples/miniflux/app.yaml").read_text())
    sample = yaml.safe_load((ROOT / "src/innkeeper/sample/app.yaml").read_text())
    assert miniflux["image"] == f"localhost/miniflux:{tags['miniflux'][0]}"
    assert sample["image"] in {f"localhost/innkeeper-sample:{tag}" for tag in tags["innkeeper-sample"]}
    version = re.search(r"^VERSION := (\S+)$", (ROOT / "examples/miniflux/Makefile").read_text(), re.MULTILINE)
    assert version is not None
    assert f"ARG VERSION={version[1]}\n" in (ROOT / FOLDER / "miniflux/Dockerfile").read_text()


def test_the_build_by_hand_sees_what_it_copies() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    for image in IMAGES:
        for source in image.copied:
            assert any(source == line[1:] or source.startswith(f"{line[1:]}/") for line in ignored if line[:1] == "!")
