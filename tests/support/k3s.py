"""A K3s in a container, by testcontainers: the tests' cluster where Docker has its image and no other is named.

Nothing is pulled unasked: either the image is there (`docker pull rancher/k3s:TAG`), or INN_TEST_K3S_IMAGE names one,
which is then pulled if need be. What `make images` built on the same engine is brought into it. Used by cluster.py.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.image_build import LABEL

VARIABLE = "INN_TEST_K3S_IMAGE"
REPOSITORY = "rancher/k3s"
NAME = f"innkeeper-test-k3s-{os.getuid()}"
"""Of the container: one for each user of an engine."""
PATIENCE = 60.0
"""Seconds for a word of the engine; one that is not there says so at once."""

_LOCK = Path.home() / ".cache" / "innkeeper" / f"{NAME}.lock"

Ask = Callable[..., tuple[int, str]]
"""The docker command's exit code and words."""


def ask_docker(*arguments: str) -> tuple[int, str]:
    if shutil.which("docker") is None:
        return 127, "there is no docker command"
    try:
        done = subprocess.run(
            ["docker", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return 124, f"it said nothing within {PATIENCE:.0f} seconds"
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr).strip()


def choose(environ: Mapping[str, str], ask: Ask = ask_docker) -> tuple[str, str]:
    """(image, ""), or ("", why there is no K3s to be had)."""
    code, said = ask("version", "--format={{.Server.Version}}")
    if code != 0:
        return "", f"no Docker engine for a K3s ({said.splitlines()[-1] if said else 'it said nothing'})"
    if named := environ.get(VARIABLE):
        return named, ""
    _, said = ask("image", "ls", "--format={{.Repository}}:{{.Tag}}", REPOSITORY)  # the newest first
    there = [line for line in said.splitlines() if not line.endswith(":<none>")]
    if there:
        return there[0], ""
    return "", f"Docker has no K3s (docker pull {REPOSITORY}:TAG, or {VARIABLE}=IMAGE, which is pulled)"


@contextmanager
def running(image: str) -> Generator[Path]:
    """Its kubeconfig. One a machine and user; what a killed session left is removed by the next."""
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # its reaper would be one more image to pull
    # On a machine that is a container itself it would ask the K3s for an address before there is one.
    os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    from testcontainers.community.k3s import K3SContainer

    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock, tempfile.TemporaryDirectory(prefix=f"{NAME}-") as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, said = ask_docker("rm", "--force", "--volumes", NAME)
        assert code == 0 or "No such container" in said, f"what a killed session left does not go: {said}"
        try:
            k3s = K3SContainer(image, name=NAME)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # it waits in a way that it calls deprecated itself
                k3s.start()
            _bring_images(Path(folder, "images.tar"))
            kubeconfig = Path(folder, "kubeconfig")
            kubeconfig.write_text(k3s.config_yaml())
            yield kubeconfig
        finally:
            ask_docker("rm", "--force", "--volumes", NAME)


def _bring_images(archive: Path) -> None:
    """What `make images` built, as `kind load docker-image` would."""
    _, said = ask_docker("image", "ls", f"--filter=label={LABEL}", "--format={{.Repository}}:{{.Tag}}")
    built = [line for line in said.splitlines() if not line.endswith(":<none>")]
    if not built:
        return  # tests that need them say so
    _checked(["docker", "save", "--output", str(archive), *built])
    with archive.open("rb") as content:
        into = ("docker", "exec", "--interactive", NAME, "ctr", "--namespace=k8s.io", "images", "import", "-")
        _checked(into, stdin=content)
    archive.unlink()


def _checked(command: Sequence[str], **options: Any) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(command[:2])}: {done.stdout}{done.stderr}"
