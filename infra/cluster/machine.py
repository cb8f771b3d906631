"""What the cluster changes on this machine, and how it is all taken back. Called by __main__.py.

`note` writes what there was before into RECORD, `prepare` makes the bridge and the firewall, `restore` takes away every
process, mount, link, rule, set, cgroup and setting, whoever started it: a cluster whose supervisor was killed leaves
the same things. `traces` is the same list, to be compared before and after (compare.py).
"""

import json
import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import processes
from paths import (
    API_PORT,
    BRIDGE,
    COMPONENTS,
    CONTENTS,
    DIRECTORY,
    FIREWALL,
    HOST,
    LOGS,
    PODS,
    RECORD,
    ClusterError,
)

SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""Settings that we, kubelet, kube-proxy, kube-router or a plugin change."""

PLACES = tuple(
    map(
        Path,
        (
            "/var/lib/cni",
            "/var/lib/kubelet",
            "/var/lib/kube-router",
            "/var/log/containers",
            "/var/log/pods",
            "/run/containerd",
            "/run/runc",
            "/run/xtables.lock",
            "/etc/cni",
            "/opt/cni",
            "/usr/libexec/kubernetes",
        ),
    )
)
"""Made by programs that do not let one choose; removed when they were not there before."""

_KUBERNETES_RULE = re.compile(r"kube|CNI-", re.IGNORECASE)
_KUBERNETES_SET = re.compile(r"^(inet6:)?(kube-router|KUBE)")
_BRIDGE_FILTER = "br_netfilter"

_NOT_OURS = ("/var/lib/containers", "/run/netns", "/sys/kernel/")
"""Where buildah, `ip netns` and whoever traces the kernel mount and leave it so."""

_FAMILIES = ("iptables", "ip6tables")


def record() -> dict[str, Any] | None:
    """What `note` wrote, if the machine was not restarted since: a restart takes everything but files with it."""
    try:
        written = json.loads(RECORD.read_text())
    except (OSError, ValueError):
        return None
    return written if written["boot"] == _boot() else None


def note(**facts: object) -> None:
    before = {
        "boot": _boot(),
        "directory": str(DIRECTORY),
        "settings": _settings(),
        "tables": _tables(),
        "places": [str(place) for place in PLACES if place.exists()],
    }
    aside = RECORD.with_suffix(".new")
    aside.write_text(json.dumps(before | facts, indent=2))
    aside.rename(RECORD)


def prepare() -> None:
    """The bridge stands before the first pod, so that DNS can listen on it and nothing has to wait."""
    _run("ip", "link", "add", BRIDGE, "type", "bridge")
    _run("ip", "address", "add", f"{HOST}/{PODS.partition('/')[2]}", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    _write_setting("net/ipv4/ip_forward", "1")
    _let_policies_see_the_bridge()
    outside = sorted(set(re.findall(r"\bdev (\S+)", _output("ip", "route", "show", "default"))))
    if outside:
        _run("nft", "-f", "-", text=_firewall(outside))
    processes.make_cgroup()


def _let_policies_see_the_bridge() -> None:
    """Without it no policy sees what passes between pods of one bridge. On most kernels nobody else asks for it."""
    setting = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not setting.exists():
        if shutil.which("modprobe") is None:
            raise ClusterError(
                f"the kernel's {_BRIDGE_FILTER} is not loaded: apt-get install kmod, which brings modprobe"
            )
        _run("modprobe", _BRIDGE_FILTER)
    if not setting.exists():
        raise ClusterError(f"the kernel has no {_BRIDGE_FILTER}, without which network policies are not enforced")
    setting.write_text("1")


def _firewall(outside: list[str]) -> str:
    devices = ", ".join(f'"{device}"' for device in outside)
    return f"""table inet {FIREWALL} {{
    chain input {{
        type filter hook input priority -10
        iifname {{ {devices} }} tcp dport {API_PORT} drop
    }}
    chain forward {{
        type filter hook forward priority -10
        iifname "{BRIDGE}" oifname {{ {devices} }} reject
        iifname {{ {devices} }} oifname "{BRIDGE}" drop
    }}
}}
"""


def strangers() -> str:
    """Why no cluster can be started here although none of ours is known; empty when it can."""
    if Path(f"/sys/class/net/{BRIDGE}").exists():
        return f"there is a network device {BRIDGE} already: another Kubernetes on this machine"
    return ""


def restore(before: dict[str, Any] | None) -> None:
    """Take everything away; may be repeated, and goes on where a killed one stopped.

    Files are ours by their place. A bridge or a rule is taken for ours only when something tells that our cluster ran
    since the machine started: a restart takes them anyway, and another Kubernetes has such things too.
    """
    directory = Path(before["directory"]) if before else DIRECTORY
    ran = before is not None or bool(_ours(directory)) or bool(processes.cgroups())
    processes.kill(lambda: processes.of_components(directory, COMPONENTS), "components")
    processes.kill(lambda: processes.shims(directory), "containerd's shims")
    processes.kill(processes.in_pods, "processes in pods")
    _unmount(directory)
    if ran:
        _remove_links()
        _remove_rules(before)
    for folder in processes.cgroups():
        folder.rmdir()
    had_filter = before is None or any(name.startswith("net/bridge/") for name in before["settings"])
    if not had_filter and shutil.which("modprobe"):
        _run("modprobe", "--remove", _BRIDGE_FILTER, check=False)  # somebody may use it by now
    for name, value in (before or {}).get("settings", {}).items():
        _write_setting(name, value)
    for place in PLACES:
        if before and str(place) not in before["places"]:
            _remove(place)
    for path in CONTENTS:
        _remove(directory / path.name)
    with suppress(OSError):
        directory.rmdir()
    RECORD.unlink(missing_ok=True)


def _unmount(directory: Path) -> None:
    prefix = f"{directory}/"
    below = [place for place in _mounts() if place.startswith(prefix)]
    for place in sorted(below, reverse=True):
        _run("umount", "--lazy", place)
    if left := [place for place in _mounts() if place.startswith(prefix)]:
        raise ClusterError(f"still mounted, so nothing was removed: {left}")


def _mounts() -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1].encode().decode("unicode_escape") for line in lines]


def _remove_links() -> None:
    for path in Path("/sys/class/net").glob("*/master"):
        if path.resolve().name == BRIDGE:
            _run("ip", "link", "delete", path.parent.name, check=False)  # it goes with its namespace too
    if Path(f"/sys/class/net/{BRIDGE}").exists():
        _run("ip", "link", "delete", BRIDGE)


def _remove_rules(before: dict[str, Any] | None) -> None:
    for family, name in (("ip", "kube-proxy"), ("ip6", "kube-proxy"), ("inet", FIREWALL)):
        if f"table {family} {name}" in _tables():
            _run("nft", "delete", "table", family, name)
    for tool in _FAMILIES:
        saved = _output(f"{tool}-save")
        kept = [line for line in saved.splitlines() if not _KUBERNETES_RULE.search(line)]
        if len(kept) != len(saved.splitlines()):
            _run(f"{tool}-restore", text="\n".join(kept) + "\n")
    for name in _output("ipset", "list", "-n").split():
        if _KUBERNETES_SET.match(name):
            _run("ipset", "destroy", name)
    # iptables makes the tables it is asked about; the ones that were not there before are empty again.
    for table in _tables():
        rules = _output("nft", "list", *table.split())
        if before and table not in before["tables"] and not re.search(r"^\t\t(?!type )\S", rules, re.MULTILINE):
            _run("nft", "delete", *table.split())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def traces() -> str:
    """Everything the cluster could have left, in a form that two runs of this can be compared by."""
    links = [line.split(": ")[1].partition("@")[0] for line in _output("ip", "-o", "link").splitlines()]
    facts = {
        "processes": [_name(pid) for pid in _ours(DIRECTORY)],
        "mounts": sorted(place for place in _mounts() if not place.startswith(_NOT_OURS)),
        "links": sorted(links),
        "routes": _output("ip", "route").splitlines(),
        "nft": re.sub(r"packets \d+ bytes \d+", "", _output("nft", "list", "ruleset")).splitlines(),
        **{f"{tool}-save": _saved(tool) for tool in _FAMILIES},
        "ipset": sorted(_output("ipset", "list", "-n").split()),
        "netns": _output("ip", "netns", "list").split(),
        "settings": _settings(),
        "cgroups": [str(path) for path in processes.cgroups()],
        "places": [str(place) for place in PLACES if place.exists()],
        "files": sorted(str(path) for path in (RECORD, *CONTENTS) if path.exists()),
    }
    return json.dumps(facts, indent=1)


def _ours(directory: Path) -> list[int]:
    components = processes.of_components(directory, COMPONENTS)
    return [*components, *processes.shims(directory), *processes.in_pods()]


def _saved(tool: str) -> list[str]:
    lines = _output(f"{tool}-save").splitlines()
    return [re.sub(r" \[\d+:\d+\]$", "", line) for line in lines if not line.startswith("#")]


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return "?"


def _settings() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in SYSCTLS:
        with suppress(OSError):
            found[name] = Path("/proc/sys", name).read_text().strip()
    return found


def _write_setting(name: str, value: str) -> None:
    path = Path("/proc/sys", name)
    with suppress(OSError):  # not every kernel has all of them, and some are read-only in a container
        if path.read_text().strip() != value:
            path.write_text(value)


def _tables() -> list[str]:
    return sorted(_output("nft", "list", "tables").splitlines())


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout


def _run(*command: str, text: str = "", check: bool = True) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise ClusterError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def log_tail(name: str, lines: int = 5) -> str:
    """The end of a component's log, for the message that says it does not run."""
    try:
        with (LOGS / f"{name}.log").open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 8192))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
