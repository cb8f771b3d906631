"""Writes requirements/*.txt from pyproject.toml: every package pinned and hashed. Called by `make lock`.

runtime.txt is what the product imports, local.txt adds what `make dev` starts, dev.txt adds what tests and checks need.
Each is a superset of the one before, with the same versions, so that one virtual environment can grow from one to the
next. The others are parts of them for images (infra/images). Pins are kept unless a dependency needs a newer one;
`make lock ARGS=--upgrade` takes the newest of everything.
"""

import itertools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

from packaging.markers import Marker, default_environment

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
UV = Path(sys.executable).with_name("uv")

# Largest first: the others take their versions from it.
PROJECT = str(ROOT / "pyproject.toml")
SETS: dict[str, list[str]] = {
    "dev": [PROJECT, "--extra", "local", "--extra", "dev", "--group", "build"],
    "local": [PROJECT, "--extra", "local", "--group", "build"],
    "evaluation": [PROJECT, "--extra", "evaluation"],
    "gateway": [PROJECT, "--extra", "gateway"],
    "runtime": [PROJECT],
    "sample": ["--group", "sample"],
    "build": ["--group", "build"],
}

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
PLATFORMS = [("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64")]

HEADER = "# Written by `make lock` from pyproject.toml: change that, not this.\n"


def compile_set(name: str, sources: list[str], output: Path, *arguments: str) -> None:
    print(f"resolving {name} ...", flush=True)
    command: list[str | Path] = [UV, "pip", "compile", *sources]
    command += ["--quiet", "--universal", "--python-version", PYTHONS[0], "--generate-hashes"]
    command += ["--only-binary", ":all:", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    subprocess.run([*command, "--output-file", output, *arguments], check=True, cwd=ROOT)


def tidy(text: str) -> str:
    """Drop whatever names a place on this machine, and the markers that hold everywhere the lock is for.

    uv repeats the platforms of [tool.uv] at every line. Without them the file can be read, and pip on another
    platform says which wheel is missing instead of quietly installing nothing.
    """
    lines = (line for line in text.splitlines() if not line.startswith(("--", "#")))
    return HEADER + "".join(_without_idle_marker(line) + "\n" for line in lines)


def _without_idle_marker(line: str) -> str:
    requirement, separator, rest = line.partition(" ; ")
    if not separator:
        return line
    marker = rest.removesuffix("\\").strip()
    return f"{requirement} \\" if _holds_everywhere(Marker(marker)) else line


def _holds_everywhere(marker: Marker) -> bool:
    for python, (sys_platform, system, machine) in itertools.product(PYTHONS, PLATFORMS):
        environment = default_environment()
        environment["python_version"] = python
        environment["python_full_version"] = f"{python}.0"
        environment["sys_platform"] = sys_platform
        environment["platform_system"] = system
        environment["platform_machine"] = machine
        if not marker.evaluate(cast("dict[str, str]", environment)):
            return False
    return True


def main() -> None:
    upgrade = sys.argv[1:]
    if upgrade not in ([], ["--upgrade"]):
        sys.exit(f"lock: unknown arguments {' '.join(upgrade)}; use `make lock` or `make lock ARGS=--upgrade`")
    REQUIREMENTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        everything = Path(folder, "dev.txt")
        for name, sources in SETS.items():
            output = Path(folder, f"{name}.txt")
            if (REQUIREMENTS / output.name).exists():
                shutil.copy(REQUIREMENTS / output.name, output)  # uv keeps the pins it finds there
            arguments = upgrade if name == "dev" else ["--upgrade", "--constraint", str(everything)]
            compile_set(name, sources, output, *arguments)
        for name in SETS:
            text = tidy(Path(folder, f"{name}.txt").read_text())
            (REQUIREMENTS / f"{name}.txt").write_text(text)
            print(f"requirements/{name}.txt: {sum(line[0].isalnum() for line in text.splitlines())} packages")


if __name__ == "__main__":
    main()
