"""A real single-node Kubernetes for the tests: `make cluster` and `make cluster-down` run this. See README.md.

python infra/cluster up       build what is missing, keep a whole cluster, replace a broken one
python infra/cluster down     take everything away but the programs
python infra/cluster build    the programs only
python infra/cluster check    is it whole? exit status 1 with the reason
python infra/cluster traces   what of it is on this machine, as JSON
python infra/cluster traces --since FILE   what came since FILE was written so; exit status 1 if anything did

With INN_CLUSTER_NODES=kwok, `up` and `down` are those of another cluster beside it, whose nodes are played (played.py).
"""

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import api
import binaries
import check
import compare
import components
import machine
import pki
import played
import processes
import supervisor
from paths import DATA, DIRECTORY, KUBECONFIG, LOCK, LOGS, PLAYED, PORTS, RUN, SOCKET, ClusterError

HERE = Path(__file__).resolve()


def up() -> None:
    if PLAYED:
        with _alone():
            played.up(_say)
        return
    _require_root()
    keys = binaries.build(_say)
    wanted = {tool: keys[tool] for tool in components.DAEMONS} | {"settings": components.fingerprint()}
    with _alone():
        known = machine.record()
        if (
            known
            and known["directory"] != str(DIRECTORY)
            and processes.of_components(Path(known["directory"]), ["etcd"])
        ):
            other = known["directory"]
            raise ClusterError(f"a cluster runs already, in {other}: INN_CLUSTER_DIR={other} uses or removes it")
        if known and known.get("programs") == wanted:
            with check.turn():
                if _kept():
                    return
        if known or DIRECTORY.exists():
            _say("removing what is left of an earlier cluster")
            machine.restore(known)
        _refuse_strangers()
        started = time.monotonic()
        machine.note(programs=wanted)
        for folder in (RUN, LOGS, DATA):
            folder.mkdir(parents=True)
        components.write_settings()
        pki.make()
        machine.prepare()
        supervisor.begin(HERE)
        _load_images()
        check.wait_until_up()
        components.create_dns_service()
        _say(f"the node is ready after {time.monotonic() - started:.1f} s; asking two pods about network policies")
        check.probe()
        _say(f"up in {time.monotonic() - started:.1f} s")
    _tell()


def _kept() -> bool:
    """Whether the cluster that runs is whole; says so, or why it goes."""
    if not check.is_whole():
        _say(f"the cluster is not whole ({', '.join(check.dead()) or 'its node is not ready'}): it is replaced")
        return False
    try:
        check.probe()
    except (ClusterError, api.Refused, OSError) as error:
        _say(f"the cluster is not whole, and is replaced: {error}")
        return False
    _say("up already, and whole")
    _tell()
    return True


def _tell() -> None:
    print(f"export KUBECONFIG={KUBECONFIG}   # kubectl, helm, ctr are in {binaries.CACHE}")


def _load_images() -> None:
    """Before the kubelet asks for a sandbox."""
    ctr = [binaries.program("ctr"), "--address", str(SOCKET), "--namespace", "k8s.io"]
    deadline = time.monotonic() + check.START_WITHIN
    while subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            raise ClusterError(f"containerd does not answer; see {LOGS}/containerd.log")
        time.sleep(0.1)
    for name, archive in binaries.archives().items():
        done = subprocess.run([*ctr, "images", "import", str(archive)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"{name} cannot be loaded: {done.stderr.strip()}")


def down() -> None:
    if PLAYED:
        with _alone():
            played.down()
        return
    _require_root()
    with _alone():
        machine.restore(machine.record())
    _say("down; the programs stay in " + str(binaries.CACHE))


def build() -> None:
    binaries.build(_say)


def whole() -> None:
    if machine.record() is None:
        raise ClusterError("there is no cluster: make cluster")
    with check.turn():
        if not check.is_whole():
            what = ", ".join(check.dead()) or "the node is not ready"
            raise ClusterError(f"not whole: {what}; make cluster replaces it")
        check.probe()
    _tell()


def traces() -> None:
    match sys.argv[2:]:
        case []:
            print(machine.traces())
        case ["--since", file]:
            try:
                before = json.loads(Path(file).read_text())
            except ValueError as error:
                raise ClusterError(f"{file} is no output of `python infra/cluster traces`: {error}") from error
            if more := compare.added(before, json.loads(machine.traces())):
                raise ClusterError("\n  ".join([f"more on this machine than when {file} was written:", *more]))
        case _:
            raise ClusterError("traces takes nothing, or --since FILE")


def _refuse_strangers() -> None:
    if why := machine.strangers():
        raise ClusterError(f"{why}. Use it with INN_TEST_KUBECONFIG=PATH, or remove it")
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError as error:
                raise ClusterError(f"port {port} is taken ({error.strerror}): `ss -ltnp` names the program") from error


def _require_root() -> None:
    if sys.platform != "linux":
        raise ClusterError("a cluster of this kind needs Linux; elsewhere use kind or k3d and INN_TEST_KUBECONFIG=PATH")
    if os.geteuid() != 0:
        raise ClusterError(
            "mounts, firewall rules and cgroups need root: sudo make cluster, or INN_TEST_KUBECONFIG=PATH"
        )


@contextmanager
def _alone() -> Generator[None]:
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another make works on the cluster; waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _say(line: str) -> None:
    print(f"cluster: {line}", flush=True)


COMMANDS = {"up": up, "down": down, "build": build, "check": whole, "traces": traces, "supervise": supervisor.run}


def main() -> int:
    command = COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if command is None:
        print((__doc__ or "").strip(), file=sys.stderr)
        return 2
    try:
        command()
    except (ClusterError, api.Refused, OSError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cluster: interrupted; the next run goes on or begins again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
