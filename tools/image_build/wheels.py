"""Fetches the packages of a set for the Python of a base image, on this machine. Called by __main__.py.

pip evaluates markers for the Python it runs in, not for the one it fetches for, so that is done here; its hashes are
checked twice, when a file is fetched and when it is installed in the build.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker

from . import ROOT, ImagesError

_LEGACY = ((17, "manylinux2014"), (12, "manylinux2010"), (5, "manylinux1"))
_OLDEST = 5
"""Minor version of the oldest glibc that wheels are built for."""


@dataclass(frozen=True, slots=True)
class Target:
    """A base's Python: ``version`` such as (3, 11, 2), ``machine`` as uname says it, ``glibc`` its minor version."""

    version: tuple[int, int, int]
    machine: str
    glibc: int

    @property
    def minor(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"

    def platforms(self) -> list[str]:
        """Platform tags of wheels that work there, narrowest first; pip does not know one from the other."""
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc, _OLDEST - 1, -1)]
        tags += [f"{name}_{self.machine}" for minor, name in _LEGACY if minor <= self.glibc]
        return [*tags, f"linux_{self.machine}"]

    def environment(self) -> dict[str, str]:
        """What markers are evaluated against."""
        full = ".".join(str(part) for part in self.version)
        return {
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": full,
            "python_version": self.minor,
            "sys_platform": "linux",
            "extra": "",
        }


def entries(text: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Name -> ``name==version`` with its hashes, of a locked file's packages that are for this environment."""
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text):
        head, _, hashes = entry.partition("\\\n")
        requirement, _, marker = head.partition(" ; ")
        if "==" not in requirement:
            continue
        if marker.strip() and not Marker(marker.strip()).evaluate(dict(environment)):
            continue
        name = requirement.partition("==")[0].strip()
        found[name] = f"{requirement.strip()} \\\n{hashes.rstrip()}\n"
    return found


def fetch(name: str, besides: str | None, target: Target, cache: Path) -> Path:
    """The folder with what requirements/``name``.txt has beside ``besides``, as wheels; kept for the next time."""
    wanted = entries((ROOT / "requirements" / f"{name}.txt").read_text(), target.environment())
    if besides is not None:
        there = entries((ROOT / "requirements" / f"{besides}.txt").read_text(), target.environment())
        wanted = {package: entry for package, entry in wanted.items() if there.get(package) != entry}
    text = "".join(wanted.values())
    digest = hashlib.sha256(f"{target}\0{text}".encode()).hexdigest()[:16]
    folder = cache / "wheels" / f"{name}-{target.minor}-{digest}"
    if not folder.is_dir():
        _download(text, target, folder, count=len(wanted), name=name)
    return folder


def _download(text: str, target: Target, folder: Path, *, count: int, name: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"images: fetching {count} packages ({name}, Python {target.minor}) ...", flush=True)
    with tempfile.TemporaryDirectory(prefix=".wheels-", dir=folder.parent) as aside:
        requirements, wheels = Path(aside, "requirements.txt"), Path(aside, "wheels")
        requirements.write_text(text)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--dest", str(wheels), "--requirement", str(requirements)]
        command += ["--implementation", "cp", "--python-version", target.minor]
        for abi in (f"cp{target.minor.replace('.', '')}", "abi3", "none"):
            command += ["--abi", abi]
        for platform in target.platforms():
            command += ["--platform", platform]
        environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or ["no output"]
            raise ImagesError(f"pip could not fetch the packages of requirements/{name}.txt: {errors[-1][:300]}")
        try:
            wheels.rename(folder)
        except OSError:
            shutil.rmtree(wheels)  # somebody else was faster
