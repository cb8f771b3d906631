"""Brings images into a cluster without a registry. Called by __main__.py.

``cluster`` is the one of `make cluster`: its containerd takes them from a file, and keeps on each, as a label, what it
was built from, so that the next time only what changed is brought. Anything else is a command of the user's with {} for
the file, which holds all images, such as "kind load image-archive {}".
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from . import LABEL, ImagesError

CLUSTER = "cluster"


def cluster_directory(environ: dict[str, str] | None = None) -> Path:
    """Where `make cluster` keeps the cluster."""
    values = os.environ if environ is None else environ
    return Path(values.get("INN_CLUSTER_DIR") or Path.home() / ".cache" / "innkeeper" / "cluster").absolute()


def loaded(listing: str, reference: str, key: str) -> bool:
    """Whether the output of ``ctr images ls`` holds this very image."""
    for line in listing.splitlines():
        if line.split(" ", 1)[0] == reference:
            return f"{LABEL}={key}" in line
    return False


class Containerd:
    """The containerd of `make cluster`."""

    def __init__(self) -> None:
        directory = cluster_directory()
        self._socket = directory / "run" / "containerd.sock"
        cache = Path(os.environ.get("INN_CLUSTER_CACHE") or directory.parent / "bin").absolute()
        ctr = cache / "ctr"
        found = str(ctr) if ctr.exists() else shutil.which("ctr")
        if found is None or not self._socket.exists():
            raise ImagesError(f"there is no cluster in {directory}: make cluster; or LOAD='COMMAND {{}}' for another")
        self._ctr = [found, "--address", str(self._socket), "--namespace", "k8s.io"]
        self._listing = self._run("images", "ls")

    def has(self, reference: str, key: str) -> bool:
        return loaded(self._listing, reference, key)

    def load(self, archive: Path, keys: Mapping[str, str]) -> None:
        """Import a file's images, ``keys`` by name. The labels are set last: a load cut short is done again."""
        self._run("images", "import", "--local", str(archive))
        for reference, key in keys.items():
            self._run("images", "label", reference, f"{LABEL}={key}")

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([*self._ctr, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or ["no output"])[-1]
            hint = " (it needs root)" if "permission denied" in said else ""
            raise ImagesError(f"the cluster's containerd refused `{' '.join(arguments[:2])}`: {said[:300]}{hint}")
        return done.stdout


class Command:
    """A user's own way into their cluster."""

    def __init__(self, command: str) -> None:
        self._words = shlex.split(command)
        if not any("{}" in word for word in self._words):
            raise ImagesError(f"LOAD={command!r}: use LOAD=cluster, or a command with {{}} for the image's file")
        if shutil.which(self._words[0]) is None:
            raise ImagesError(f"LOAD: there is no command {self._words[0]!r}")

    def has(self, reference: str, key: str) -> bool:  # noqa: ARG002 - we cannot know
        return False

    def load(self, archive: Path, keys: Mapping[str, str]) -> None:  # noqa: ARG002
        command = [word.replace("{}", str(archive)) for word in self._words]
        done = subprocess.run(command, check=False)
        if done.returncode != 0:
            raise ImagesError(f"`{shlex.join(command)}` ended with {done.returncode}")
