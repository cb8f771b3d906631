"""On what the images are built: an image of a registry, or one made here by mmdebstrap. Called by __main__.py.

What is built with a registry at hand is pinned: infra/images/base.lock holds the digest of each base that somebody has
accepted with PIN=1, and a build takes that one or fails. Nothing here asks a registry when the local base is wanted.
"""

import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import ROOT, ImagesError
from .catalogue import FOLDER
from .engine import Engine

USUAL = "python:3.12-slim"
"""As in the Dockerfiles."""

LOCAL = "local"
LOCAL_REFERENCE = "localhost/innkeeper/base:1"
LOCK = ROOT / FOLDER / "base.lock"

# essential: no package manager. venv is for the stages that install packages.
_MMDEBSTRAP = (
    "mmdebstrap",
    "--quiet",
    "--variant=essential",
    "--include=python3,python3-venv,ca-certificates",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "bookworm",
)


@dataclass(frozen=True, slots=True)
class Choice:
    """``reference``: what to build on. ``fall_back``: whether the local base may take its place."""

    reference: str
    fall_back: bool = False


def choose(asked: str | None, *, engine: str, ci: bool) -> Choice:
    """What was asked for; else the usual image where people have a registry, and the local base elsewhere.

    =====================  ==========  =======================================================
    BASE=                  engine      base
    =====================  ==========  =======================================================
    an image               any         that image, or an error
    local                  any         the local one
    not given, in CI       any         the local one: CI asks no registry
    not given              buildah     the local one: a machine with nothing but a builder
    not given              others      the usual image; the local one if it cannot be pulled
    =====================  ==========  =======================================================
    """
    if asked:
        return Choice(LOCAL_REFERENCE if asked == LOCAL else asked)
    if ci or engine == "buildah":
        return Choice(LOCAL_REFERENCE)
    return Choice(USUAL, fall_back=True)


def pinned(reference: str, lock: str) -> str:
    """``reference`` with the digest that the lock file gives it, if it gives one."""
    if "@" in reference:
        return reference
    pins = dict(line.split() for line in lock.splitlines() if line.strip() and not line.startswith("#"))
    return f"{reference}@{pins[reference]}" if reference in pins else reference


def with_pin(lock: str, reference: str, digest: str) -> str:
    """The lock file's text with this pin in it, instead of an older one."""
    kept = [line for line in lock.splitlines() if line.strip() and line.split()[0] != reference]
    return "".join(f"{line}\n" for line in [*kept, f"{reference} {digest}"])


def obtain(choice: Choice, engine: Engine, cache: Path, *, pin: bool) -> str:
    """Bring the base into the engine; the reference to build on."""
    if choice.reference == LOCAL_REFERENCE:
        return _local(engine, cache)
    lock = LOCK.read_text() if LOCK.exists() else ""
    wanted = choice.reference if pin else pinned(choice.reference, lock)
    if engine.identity(wanted) is None or pin:
        print(f"images: pulling {wanted} ...", flush=True)
        failed = engine.pull(wanted)
        if failed is not None:
            if choice.fall_back and shutil.which("mmdebstrap"):
                print(f"images: {wanted} cannot be pulled ({failed}); a base is made here instead", flush=True)
                return _local(engine, cache)
            raise ImagesError(
                f"{wanted} cannot be pulled: {failed}. BASE=IMAGE names another, "
                "BASE=local makes one here (apt-get install mmdebstrap)"
            )
    digest = engine.digest(wanted)
    if pin:
        if digest is None:
            raise ImagesError(f"{wanted} has no digest of a registry: it cannot be pinned")
        LOCK.write_text(with_pin(lock, choice.reference, digest))
        print(f"images: pinned {choice.reference} to {digest}", flush=True)
        return pinned(choice.reference, LOCK.read_text())
    if "@" not in wanted:
        print(f"images: {wanted} is a tag that moves (now {digest or 'unknown'}): PIN=1 pins it", flush=True)
    return wanted


def _local(engine: Engine, cache: Path) -> str:
    dockerfile = ROOT / FOLDER / "base" / "Dockerfile"
    key = hashlib.sha256("\0".join((*_MMDEBSTRAP, dockerfile.read_text())).encode()).hexdigest()[:32]
    if engine.label(LOCAL_REFERENCE) == key:
        return LOCAL_REFERENCE
    archive = cache / f"base-{key}.tar"
    if not archive.exists():
        _make(archive)
    with tempfile.TemporaryDirectory(prefix=".base-", dir=cache) as folder:
        Path(folder, "base.tar").hardlink_to(archive)
        shutil.copy(dockerfile, folder)
        engine.build(Path(folder), "Dockerfile", [LOCAL_REFERENCE], key=key)
    return LOCAL_REFERENCE


def _make(archive: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise ImagesError("a local base needs mmdebstrap: apt-get install mmdebstrap; or BASE=IMAGE names a base")
    print("images: making a base with mmdebstrap (half a minute) ...", flush=True)
    with tempfile.TemporaryDirectory(prefix=".mmdebstrap-", dir=archive.parent) as folder:
        aside = Path(folder, "base.tar")
        done = subprocess.run([*_MMDEBSTRAP, str(aside)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or ["no output"]
            raise ImagesError(f"mmdebstrap failed: {said[0]}")
        aside.rename(archive)
