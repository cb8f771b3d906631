"""docker, podman or buildah behind one face. Called by __main__.py and base.py.

buildah runs the steps of a build in a chroot: these are our own Dockerfiles, and that works on every machine, also in
one that is a container itself.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from . import LABEL, ImagesError

ORDER = ("docker", "podman", "buildah")
_FACTS = (
    "import json, os, platform, sys; "
    "print(json.dumps([sys.version_info[:3], platform.machine(), os.confstr('CS_GNU_LIBC_VERSION')]))"
)


def choose(asked: str | None, problems: Mapping[str, str | None]) -> str:
    """The engine to use. ``problems``: for each of ORDER None, or in words why it cannot be used."""
    if asked:
        if asked not in problems:
            raise ImagesError(f"ENGINE={asked} is not known: use one of {', '.join(ORDER)}")
        if problems[asked] is not None:
            raise ImagesError(f"ENGINE={asked}: {problems[asked]}")
        return asked
    for name in ORDER:
        if problems[name] is None:
            return name
    reasons = "; ".join(f"{name} {problems[name]}" for name in ORDER)
    raise ImagesError(f"nothing here builds images ({reasons}): apt-get install buildah, or start Docker")


def network(name: str, environ: Mapping[str, str]) -> str:
    """The option by which a build has no network. podman refuses it in a chroot; pip asks nobody there either."""
    chroot = name == "podman" and environ.get("BUILDAH_ISOLATION") == "chroot"
    return "--network=host" if chroot else "--network=none"


def problems() -> dict[str, str | None]:
    """What is in the way of each engine. A docker command alone is none: an engine must answer."""
    return {name: _problem(name) for name in ORDER}


def _problem(name: str) -> str | None:
    if shutil.which(name) is None:
        return "is not installed"
    try:
        done = _run([name, "info"], timeout=60)
    except subprocess.TimeoutExpired:
        return "does not answer within a minute"
    if done.returncode == 0:
        return None
    return "does not answer: " + _last_line(done.stdout + done.stderr)


class Engine:
    """One of ORDER. Every error of a build is an ImagesError with its last words and where the rest is."""

    def __init__(self, name: str, logs: Path) -> None:
        self.name = name
        self._logs = logs

    def build(
        self,
        context: Path,
        dockerfile: str,
        references: Sequence[str],
        *,
        key: str,
        target: str | None = None,
        arguments: Mapping[str, str] | None = None,
    ) -> None:
        """Build one image and give it its names; ``key`` is kept on it as a label. It has no network."""
        command = [self.name, "build"] if self.name != "buildah" else ["buildah", "bud"]
        if self.name != "docker":
            command += ["--layers", "--pull-never"] if self.name == "buildah" else ["--layers", "--pull=never"]
        command += [network(self.name, os.environ)]
        command += ["--file", str(context / dockerfile), "--label", f"{LABEL}={key}"]
        for reference in references:
            command += ["--tag", reference]
        for name, value in (arguments or {}).items():
            command += ["--build-arg", f"{name}={value}"]
        if target is not None:
            command += ["--target", target]
        self._logged([*command, str(context)], references[0])

    def label(self, reference: str) -> str | None:
        """What the image was built from; None if it is not there or not ours."""
        found = self._inspect(reference)
        if self.name == "buildah":
            return _dig(found, "OCIv1", "config", "Labels", LABEL)
        return _dig(found, "Config", "Labels", LABEL)

    def identity(self, reference: str) -> str | None:
        """The image's own id; None if it is not there."""
        found = self._inspect(reference)
        return _dig(found, "FromImageID") if self.name == "buildah" else _dig(found, "Id")

    def digest(self, reference: str) -> str | None:
        """The digest by which a registry knows the image; None for one that came from no registry."""
        found = self._inspect(reference)
        if self.name == "buildah":
            return _dig(found, "FromImageDigest")
        digests: list[str] = found.get("RepoDigests") or []
        return digests[0].rpartition("@")[2] if digests else None

    def size(self, reference: str) -> int:
        """Bytes on this machine, the base included."""
        if self.name != "buildah":
            return int(self._inspect(reference)["Size"])
        done = self._checked(["buildah", "images", "--json", reference])
        text = str(json.loads(done)[0]["size"])  # such as "154 MB"
        number, unit = text.split()
        return int(float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit.upper()])

    def pull(self, reference: str) -> str | None:
        """Bring an image from its registry; why that failed, or None."""
        always = (
            ["--policy=always"] if self.name == "buildah" else []
        )  # what is here under that tag may be an older one
        done = _run([self.name, "pull", *always, reference], timeout=1800)
        return None if done.returncode == 0 else _last_line(done.stderr)

    def python(self, reference: str) -> tuple[tuple[int, int, int], str, str]:
        """Version, machine and C library (such as "glibc 2.36") of the image's Python."""
        if self.name == "buildah":
            container = self._checked(["buildah", "from", "--pull-never", reference]).strip()
            try:
                said = self._checked(["buildah", "run", container, "--", "python3", "-c", _FACTS])
            finally:
                _run(["buildah", "rm", container])
        elif self.name == "podman":
            said = self._asked_in_a_build(reference)
        else:
            command = [self.name, "run", "--rm", "--network=none", "--entrypoint=python3", reference, "-c", _FACTS]
            said = self._checked(command)
        version, machine, libc = json.loads(said)
        return (version[0], version[1], version[2]), machine, libc or "no glibc"

    def _asked_in_a_build(self, reference: str) -> str:
        """What the image's Python says, for podman: where it builds (in a chroot, say), it need not be able to run."""
        with tempfile.TemporaryDirectory() as context:
            Path(context, "facts.py").write_text(_FACTS)
            steps = f"FROM {reference}\nCOPY facts.py /tmp/facts.py\nRUN python3 /tmp/facts.py\n"
            Path(context, "Dockerfile").write_text(steps)
            options = ["--pull=never", "--no-cache", "--layers=false", network(self.name, os.environ)]
            said = self._checked([self.name, "build", *options, context])
        found = [line for line in said.splitlines() if line.startswith("[")]
        if len(found) != 1:
            raise ImagesError(f"{reference} has no python3 that answers: {_last_line(said)}")
        return found[0]

    def save(self, references: Sequence[str], archive: Path) -> None:
        """Write images to one file that containerd, docker and podman can import; what they share is in it once."""
        if self.name == "buildah":
            layout = archive.with_suffix(".oci")
            for reference in references:
                target = f"oci:{layout}:{reference}"
                self._checked(["buildah", "push", "--quiet", "--disable-compression", reference, target])
            with tarfile.open(archive, "w") as file:
                for path in sorted(layout.rglob("*")):
                    file.add(path, path.relative_to(layout), recursive=False)
            shutil.rmtree(layout)
        else:
            several = ["--multi-image-archive"] if self.name == "podman" else []
            self._checked([self.name, "save", *several, "--output", str(archive), *references])

    def _inspect(self, reference: str) -> dict[str, Any]:
        kind = ["buildah", "inspect", "--type", "image"] if self.name == "buildah" else [self.name, "image", "inspect"]
        done = _run([*kind, reference])
        if done.returncode != 0:
            return {}
        found = json.loads(done.stdout)
        return found[0] if isinstance(found, list) else found  # pyright: ignore[reportUnknownVariableType]

    def _checked(self, command: Sequence[str]) -> str:
        done = _run(command, timeout=600)
        if done.returncode != 0:
            raise ImagesError(f"`{' '.join(command[:3])} ...` failed: {_last_line(done.stderr)}")
        return done.stdout

    def _logged(self, command: Sequence[str], reference: str) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / (re.sub(r"[^a-z0-9.-]+", "_", reference) + ".log")
        with log.open("w") as file:
            file.write(" ".join(command) + "\n")
            file.flush()
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=_environment(self.name), check=False
            )
        if done.returncode != 0:
            raise ImagesError(f"{reference} was not built: {_last_line(log.read_text(errors='replace'))} (log: {log})")


def _environment(name: str) -> dict[str, str]:
    """Settings for an engine's commands, only where nothing was chosen."""
    if name == "buildah":
        usual = {"BUILDAH_ISOLATION": "chroot"}
    elif name == "docker":
        usual = {"DOCKER_BUILDKIT": "1" if _has_buildx(name) else "0"}
    else:
        usual = {}
    return {**usual, **os.environ}


@functools.cache
def _has_buildx(docker: str) -> bool:
    """Without this plug-in docker refuses BuildKit. The Dockerfiles do without it: unused stages are built too then."""
    done = subprocess.run([docker, "buildx", "version"], capture_output=True, timeout=60, check=False)
    return done.returncode == 0


def _run(command: Sequence[str], *, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        env=_environment(command[0]),
        check=False,
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "it said nothing"


def _dig(found: Mapping[str, Any], *path: str) -> str | None:
    value: Any = found
    for name in path:
        value = cast("Mapping[str, Any]", value or {}).get(name)
    return value or None
