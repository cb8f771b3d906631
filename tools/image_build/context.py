"""What a build sees: copies of just the files its Dockerfile names, always alike. Called by __main__.py.

A build context made from the clone itself would hold whatever lies there, and its times would undo the engines' caches.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

_TIME = 1_700_000_000
"""Every file's: engines keep layers by content and time, and a checkout gives files the time of the checkout."""

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")


def stage(root: Path, folder: Path, copied: Iterable[str]) -> None:
    """Copy files and folders of ``root`` to the same places below ``folder``."""
    for name in copied:
        source, target = root / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_LEFT_OUT, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)


def stage_wheels(folder: Path, name: str, wheels: Path) -> None:
    """Put a set's packages where the Dockerfiles look for them."""
    target = folder / "wheels" / name
    target.mkdir(parents=True, exist_ok=True)
    for wheel in wheels.iterdir():
        shutil.copy(wheel, target / wheel.name)


def settle(folder: Path) -> str:
    """Give all files the same time and owner's modes; the hash of names, modes and contents."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
        else:
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            path.chmod(mode)
            digest.update(f"{path.relative_to(folder)}\0{mode:o}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        os.utime(path, (_TIME, _TIME))
    return digest.hexdigest()


def key(contents: str, *more: str) -> str:
    """The hash of all an image is built from: its context, its base and whatever else is given to the build."""
    return hashlib.sha256("\0".join((contents, *more)).encode()).hexdigest()[:32]
