"""What `make images` decides: engine, base, packages, what has changed, where it goes."""

import os
from pathlib import Path

import pytest
from tools.image_build import ImagesError, base, context, engine, load, wheels
from tools.image_build.__main__ import selected, target_of

ROOT = Path(__file__).parents[2]
DEBIAN = wheels.Target((3, 11, 2), "x86_64", 36)


# Engine and base -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "usable", "chosen"),
    [
        (None, {"docker", "podman", "buildah"}, "docker"),
        (None, {"podman", "buildah"}, "podman"),
        (None, {"buildah"}, "buildah"),
        ("buildah", {"docker", "buildah"}, "buildah"),
    ],
)
def test_the_first_engine_that_answers_is_used(asked: str | None, usable: set[str], chosen: str):
    problems = {name: None if name in usable else "does not answer" for name in engine.ORDER}
    assert engine.choose(asked, problems) == chosen


def test_no_engine_is_said_with_the_command_that_brings_one():
    problems: dict[str, str | None] = {"docker": "does not answer: no daemon"}
    problems |= dict.fromkeys(("podman", "buildah"), "is not installed")
    with pytest.raises(ImagesError, match=r"docker does not answer: no daemon; .*apt-get install buildah"):
        engine.choose(None, problems)
    with pytest.raises(ImagesError, match="ENGINE=docker: does not answer"):
        engine.choose("docker", problems)
    with pytest.raises(ImagesError, match="ENGINE=kaniko is not known"):
        engine.choose("kaniko", problems)


def test_a_build_has_no_network():
    assert {engine.network(name, {}) for name in engine.ORDER} == {"--network=none"}
    assert engine.network("buildah", {"BUILDAH_ISOLATION": "chroot"}) == "--network=none"
    assert engine.network("podman", {"BUILDAH_ISOLATION": "chroot"}) == "--network=host"  # it refuses none there


@pytest.mark.parametrize(
    ("asked", "name", "ci", "expected"),
    [
        ("local", "docker", False, base.Choice(base.LOCAL_REFERENCE)),
        ("debian-python:1", "buildah", True, base.Choice("debian-python:1")),
        (None, "docker", False, base.Choice(base.USUAL, fall_back=True)),
        (None, "podman", False, base.Choice(base.USUAL, fall_back=True)),
        (None, "docker", True, base.Choice(base.LOCAL_REFERENCE)),
        (None, "buildah", False, base.Choice(base.LOCAL_REFERENCE)),
    ],
)
def test_the_base(asked: str | None, name: str, ci: bool, expected: base.Choice):
    assert base.choose(asked, engine=name, ci=ci) == expected


def test_a_pin_replaces_an_older_one_and_leaves_the_others():
    one, two = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
    lock = base.with_pin("# bases\n", "python:3.12-slim", one)
    lock = base.with_pin(lock, "debian:12", one)
    lock = base.with_pin(lock, "python:3.12-slim", two)
    assert base.pinned("python:3.12-slim", lock) == f"python:3.12-slim@{two}"
    assert base.pinned("debian:12", lock) == f"debian:12@{one}"
    assert base.pinned("python:3.13-slim", lock) == "python:3.13-slim"
    assert base.pinned(f"python:3.12-slim@{one}", lock) == f"python:3.12-slim@{one}"
    assert lock.startswith("# bases\n")


@pytest.mark.parametrize(
    ("version", "libc", "words"), [((3, 9, 2), "glibc 2.31", "3.11 to 3.14"), ((3, 12, 1), "no glibc", "not on Alpine")]
)
def test_a_base_without_packages_is_refused(version: tuple[int, int, int], libc: str, words: str):
    with pytest.raises(ImagesError, match=words):
        target_of("some:1", version, "x86_64", libc)


# Packages ------------------------------------------------------------------------------------------------------------

LOCKED = """# comment
one==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
two==2.0 ; python_full_version < '3.12' \\
    --hash=sha256:ba
two==2.1 ; python_full_version >= '3.12' \\
    --hash=sha256:bb
three==3.0 ; sys_platform == 'darwin' \\
    --hash=sha256:ca
"""


def test_packages_are_those_of_the_base_not_of_this_python():
    newer = wheels.Target((3, 13, 1), "x86_64", 41)
    old, new = (wheels.entries(LOCKED, target.environment()) for target in (DEBIAN, newer))
    assert set(old) == set(new) == {"one", "two"}
    assert old["one"] == "one==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:ab\n"
    assert old["two"] == "two==2.0 \\\n    --hash=sha256:ba\n"
    assert new["two"].startswith("two==2.1 ")


@pytest.mark.parametrize("name", ["runtime", "gateway", "evaluation", "sample", "build"])
def test_every_locked_package_is_understood(name: str):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found = wheels.entries(text, DEBIAN.environment())
    pinned = {line.partition("==")[0] for line in text.splitlines() if line[:1].isalnum()}
    assert len(found) > 0
    assert set(found) <= pinned
    assert all("--hash=sha256:" in entry for entry in found.values())


def test_platforms_are_the_bases_glibc_and_older():
    tags = wheels.Target((3, 12, 0), "aarch64", 28).platforms()
    assert tags[0] == "manylinux_2_28_aarch64"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64"} <= set(tags)
    assert "manylinux_2_34_aarch64" not in tags


# What has changed ----------------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "src" / "__pycache__").mkdir(parents=True)
    (folder / "src" / "a.py").write_text("a")
    (folder / "src" / "__pycache__" / "a.cpython-311.pyc").write_text("compiled")
    (folder / "README.md").write_text("read me")
    (folder / "not copied").write_text("x")
    return folder


def staged(source: Path, folder: Path) -> str:
    context.stage(source, folder, ["src", "README.md"])
    return context.settle(folder)


def test_a_context_holds_what_is_copied_and_nothing_else(source: Path, tmp_path: Path):
    staged(source, tmp_path / "one")
    files = {str(path.relative_to(tmp_path / "one")) for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert files == {"src/a.py", "README.md"}


def test_only_names_modes_and_contents_change_what_an_image_is_built_from(source: Path, tmp_path: Path):
    first = staged(source, tmp_path / "one")
    os.utime(source / "README.md", (1, 1))
    (source / "src" / "a.py").chmod(0o600)  # another umask
    (source / "src" / "__pycache__" / "b.cpython-311.pyc").write_text("compiled")
    assert staged(source, tmp_path / "two") == first

    (source / "src" / "a.py").chmod(0o755)
    executable = staged(source, tmp_path / "three")
    (source / "src" / "a.py").write_text("b")
    changed = staged(source, tmp_path / "four")
    (source / "src" / "a.py").rename(source / "src" / "b.py")
    moved = staged(source, tmp_path / "five")
    assert len({first, executable, changed, moved}) == 4


def test_base_and_target_are_part_of_it():
    assert len({context.key("c", "base", "x"), context.key("c", "other", "x"), context.key("c", "base", "y")}) == 3


# Where it goes -------------------------------------------------------------------------------------------------------

LISTING = """REF                              TYPE      DIGEST    SIZE     PLATFORMS   LABELS
localhost/innkeeper-gateway:dev  app/x.oci sha256:11 120 MiB  linux/amd64 innkeeper.dev/built-from=k2,io.cri=managed
localhost/innkeeper:dev          app/x.oci sha256:22 110 MiB  linux/amd64 innkeeper.dev/built-from=k1
localhost/half:dev               app/x.oci sha256:33 110 MiB  linux/amd64 -
"""


def test_what_the_cluster_has_is_not_brought_again():
    assert load.loaded(LISTING, "localhost/innkeeper:dev", "k1")
    assert load.loaded(LISTING, "localhost/innkeeper-gateway:dev", "k2")
    assert not load.loaded(LISTING, "localhost/innkeeper:dev", "k2")
    assert not load.loaded(LISTING, "localhost/half:dev", "k1")
    assert not load.loaded(LISTING, "localhost/none:dev", "k1")


def test_another_cluster_needs_a_command_with_a_place_for_the_file(tmp_path: Path):
    with pytest.raises(ImagesError, match="LOAD=cluster, or a command"):
        load.Command("kind load image-archive")
    with pytest.raises(ImagesError, match="no command 'no-such-thing'"):
        load.Command("no-such-thing {}")
    archive = tmp_path / "a.tar"
    archive.write_text("image")
    load.Command(f"cp {{}} {tmp_path}/loaded").load(archive, {"localhost/a:1": "key"})
    assert (tmp_path / "loaded").read_text() == "image"
    with pytest.raises(ImagesError, match="ended with 1"):
        load.Command("false {}").load(archive, {"localhost/a:1": "key"})


def test_no_cluster_is_said_with_the_command_that_makes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("INN_CLUSTER_DIR", str(tmp_path / "none"))
    with pytest.raises(ImagesError, match="make cluster"):
        load.Containerd()


def test_images_for_tests_are_only_built_for_a_cluster():
    assert "innkeeper-probe" not in [image.name for image in selected([], loading=False)]
    assert "innkeeper-probe" in [image.name for image in selected([], loading=True)]
    assert [image.name for image in selected(["miniflux", "miniflux"], loading=False)] == ["miniflux"]
    with pytest.raises(ImagesError, match="no image 'minflux': use innkeeper"):
        selected(["minflux"], loading=False)
