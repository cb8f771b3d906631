"""What `make cluster` says before it can begin, and that a killed build is never taken for a whole one.

Go is played by a script here, because what is asked is what becomes of its files; the real one builds in CI.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.waiting import eventually

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "infra" / "cluster"

GO = """#!/bin/sh
# What the recipe asks of Go: its version, and a file at the place named after -o.
if [ "$1" = env ]; then echo "$GO_VERSION"; exit; fi
while [ "$1" != -o ]; do shift; done
printf half > "$2"
if [ -n "$GO_HANGS" ]; then touch "$GO_HANGS"; exec sleep 600; fi
printf whole > "$2"
echo "$2" >> "$GO_LOG"
"""


@pytest.fixture
def environment(tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    go = programs / "go"
    go.write_text(GO)
    go.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "INN_CLUSTER_DIR": str(tmp_path / "cluster"),
        "INN_CLUSTER_CACHE": str(tmp_path / "bin"),
        "GO_VERSION": "go1.26.0",
        "GO_LOG": str(tmp_path / "built.log"),
        "GO_HANGS": "",
    }


def recipe(command, environment, *arguments, prefix=()):
    words = [*prefix, sys.executable, str(RECIPE), command, *arguments]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def packages():
    if sys.platform != "linux":
        pytest.skip("the cluster's recipe is for Linux")
    missing = [name for name in ("gcc", "iptables", "ipset", "nft", "conntrack") if shutil.which(name) is None]
    if not Path("/proc/sys/net/bridge").exists() and shutil.which("modprobe") is None:
        missing.append("modprobe")
    if missing or not Path("/usr/lib/cni/bridge").exists():
        pytest.skip("the cluster's Debian packages are not here: `make cluster` names them")


@pytest.mark.parametrize("version", ["go1.19.8", "go1.25.3", "devel"])
def test_old_go_is_named_with_what_to_do(environment, version):
    done = recipe("build", environment | {"GO_VERSION": version})

    assert done.returncode == 1
    assert f"is {version}" in done.stderr
    assert "Go 1.26 or newer" in done.stderr
    assert "https://go.dev/dl/" in done.stderr


def test_missing_packages_are_named_with_the_command(environment):
    done = recipe("build", environment | {"PATH": environment["PATH"].partition(":")[0]})

    assert done.returncode == 1
    assert "apt-get install" in done.stderr
    assert "ipset" in done.stderr


def test_who_is_not_root_is_told_so(environment):
    if os.geteuid() == 0:
        prefix = ["setpriv", "--reuid=65534", "--clear-groups", "--regid=65534"]
        if not os.access(sys.executable, os.X_OK) or shutil.which("setpriv") is None:
            pytest.skip("no setpriv: apt-get install util-linux")
    else:
        prefix = []
    # An interpreter everybody may run: the one of .venv can lie below a closed home.
    words = [*prefix, "/usr/bin/python3", "-c", _as_package("up")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "root" in done.stderr


def _as_package(command):
    sources = {path.name: path.read_text() for path in RECIPE.glob("*.py")}
    return f"""
import pathlib, runpy, sys, tempfile
with tempfile.TemporaryDirectory() as place:
    for name, text in {sources!r}.items():
        pathlib.Path(place, name).write_text(text)
    sys.argv[1:] = [{command!r}]
    sys.path.insert(0, place)
    runpy.run_path(place + "/__main__.py", run_name="__main__")
"""


def test_killed_build_goes_on_and_leaves_nothing_half(environment, packages, tmp_path):
    hanging = tmp_path / "hanging"
    words = [sys.executable, str(RECIPE), "build"]
    killed = subprocess.Popen(words, env=environment | {"GO_HANGS": str(hanging)}, start_new_session=True)
    eventually(hanging.exists)
    os.killpg(killed.pid, 9)
    killed.wait()
    halves = [path for path in (tmp_path / "bin").rglob("*") if path.is_file() and path.read_bytes() == b"half"]
    assert halves  # the control: there was something to take for whole
    assert not list((tmp_path / "bin" / "built").glob("[a-z]*"))

    done = recipe("build", environment)

    assert done.returncode == 0, done.stderr
    for name in ("kubelet", "kube-router", "containerd", "runc", "coredns", "helm", "kwok", "ctr"):
        assert (tmp_path / "bin" / name).read_text() == "whole"
    assert not list((tmp_path / "bin" / "built").glob(".*"))


def test_only_what_changed_is_built_again(environment, packages, tmp_path):
    log = Path(environment["GO_LOG"])
    copy = tmp_path / "recipe"
    shutil.copytree(RECIPE, copy, ignore=shutil.ignore_patterns("__pycache__"))

    def build():
        log.write_text("")
        subprocess.run([sys.executable, str(copy), "build"], env=environment, check=True, capture_output=True)
        return {Path(line).name for line in log.read_text().splitlines()}

    assert {"kube", "runc", "helm"} <= build()
    assert build() == set()

    with (copy / "modules" / "helm" / "go.sum").open("a") as pins:
        pins.write("example.com/other v1.0.0 h1:AAAA=\n")
    assert build() == {"helm"}

    environment["GO_VERSION"] = "go1.27.1"
    assert {"kube", "runc", "helm"} <= build()


def test_pins_name_no_place_to_fetch_from():
    pins = list(RECIPE.glob("modules/*/go.*"))
    assert {path.name for path in pins} == {"go.mod", "go.sum"}
    for path in pins:
        assert "://" not in path.read_text(), path
        assert "replace" not in path.read_text() or path.parent.name == "kube", path


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the cluster's recipe is for Linux")


@needs_linux
def test_what_came_since_is_named(environment, tmp_path):
    before = tmp_path / "before.json"
    nothing = {"links": [], "settings": {"vm/overcommit_memory": "9", "net/bridge/gone": "1"}}
    before.write_text(json.dumps(nothing))

    done = recipe("traces", environment, "--since", str(before))

    assert done.returncode == 1
    assert "links: lo" in done.stderr
    assert "settings: vm/overcommit_memory is " in done.stderr
    assert ", was 9" in done.stderr
    assert "net/bridge/gone" not in done.stderr


@needs_linux
def test_nothing_that_came_is_no_failure(environment, tmp_path):
    before = tmp_path / "before.json"

    def unchanged():  # pods of other tests come and go meanwhile
        written = recipe("traces", environment)
        assert written.returncode == 0, written.stderr
        before.write_text(written.stdout)
        return recipe("traces", environment, "--since", str(before)).returncode == 0

    eventually(unchanged)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "/nowhere/before.json"], "/nowhere/before.json"),
        (["--since", str(RECIPE / "README.md")], "is no output of `python infra/cluster traces`"),
        (["--since"], "traces takes nothing, or --since FILE"),
    ],
)
@needs_linux
def test_traces_that_cannot_be_compared_are_refused(environment, arguments, words):
    done = recipe("traces", environment, *arguments)

    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def places(nodes):
    """What a cluster of this kind uses of the machine: folder, lock and ports."""
    said = "import json, paths; print(json.dumps([str(paths.DIRECTORY), str(paths.LOCK), *paths.PORTS]))"
    environment = {**os.environ, "PYTHONPATH": str(RECIPE), "INN_CLUSTER_NODES": nodes}
    done = subprocess.run([sys.executable, "-c", said], env=environment, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_a_played_cluster_runs_beside_the_other():
    assert not places("kwok") & places("")
    assert len(places("kwok")) > 2
