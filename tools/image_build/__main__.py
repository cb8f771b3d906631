"""`make images`: build what changed, say how large it is, and load it where that was asked for.

An image that carries the hash of all it would be built from is left alone. Files are made aside and renamed, and the
names of an image move when it is whole, so that a build cut short leaves the images of before.
"""

import argparse
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import ROOT, ImagesError, base, context, engine, wheels
from .catalogue import IMAGES, Image
from .load import CLUSTER, Command, Containerd


def cache_directory() -> Path:
    """Where packages, the local base and logs are kept between builds."""
    return Path(os.environ.get("INN_IMAGES_CACHE") or Path.home() / ".cache" / "innkeeper" / "images").absolute()


def selected(names: Sequence[str], *, loading: bool) -> list[Image]:
    """The images asked for by name; else all, those for tests only when they are going to a cluster."""
    known = {image.name: image for image in IMAGES}
    for name in names:
        if name not in known:
            raise ImagesError(f"there is no image {name!r}: use {', '.join(known)}")
    if names:
        return [known[name] for name in dict.fromkeys(names)]
    return [image for image in IMAGES if loading or not image.for_tests]


@contextmanager
def only_one(cache: Path) -> Generator[None]:
    """One build at a time on this machine: the second finds everything done."""
    with (cache / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("images: another build is at work; waiting for it ...", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Builder:
    """Builds images on one base with one engine."""

    def __init__(self, tool: engine.Engine, reference: str, cache: Path) -> None:
        self._engine = tool
        self._base = reference
        self._identity = tool.identity(reference) or ""
        self._cache = cache
        self._target: wheels.Target | None = None

    def build(self, image: Image) -> str:
        """Bring one image up to date; what it was built from."""
        began = time.monotonic()
        if image.needs:
            _make_needed(image)
        with tempfile.TemporaryDirectory(prefix=".context-", dir=self._cache) as folder:
            path = Path(folder)
            sets = [f"requirements/{name}.txt" for name, _ in image.packages]
            context.stage(ROOT, path, [image.dockerfile, *image.copied, *sets])
            for name, besides in image.packages:
                context.stage_wheels(path, name, wheels.fetch(name, besides, self._target_of_base(), self._cache))
            key = context.key(context.settle(path), self._identity, image.target or "", image.dockerfile)
            fresh = all(self._engine.label(reference) == key for reference in image.references)
            if not fresh:
                arguments = {"BASE": self._base}
                if image.packages:
                    arguments |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
                self._engine.build(
                    path, image.dockerfile, image.references, key=key, target=image.target, arguments=arguments
                )
        took = "unchanged" if fresh else f"built in {time.monotonic() - began:.1f} s"
        size = self._engine.size(image.references[0]) / 1e6
        print(f"images: {', '.join(image.references):<60} {size:6.0f} MB  {took}", flush=True)
        return key

    def _target_of_base(self) -> wheels.Target:
        if self._target is None:
            known = self._cache / f"python-{self._identity.removeprefix('sha256:')[:16]}.json"
            if not known.exists():
                known.write_text(json.dumps(self._engine.python(self._base)))
            (major, minor, patch), machine, libc = json.loads(known.read_text())
            self._target = target_of(self._base, (major, minor, patch), machine, libc)
        return self._target


def target_of(reference: str, version: tuple[int, int, int], machine: str, libc: str) -> wheels.Target:
    """What packages have to be for; refuses a base they do not exist for."""
    if not (3, 11) <= version[:2] < (3, 15):
        raise ImagesError(f"{reference} has Python {version[0]}.{version[1]}: take a base with 3.11 to 3.14")
    if not libc.startswith("glibc 2."):
        raise ImagesError(f"{reference} has {libc}: there are packages for glibc only, so not on Alpine")
    return wheels.Target(version, machine, int(libc.removeprefix("glibc 2.").split(".")[0]))


def _make_needed(image: Image) -> None:
    done = subprocess.run(image.needs, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if not line.startswith("make")] or ["no output"]
        raise ImagesError(f"{image.name} needs `{' '.join(image.needs)}`, which failed: {said[0][:300]}")


def load_all(
    tool: engine.Engine, target: Containerd | Command, built: Sequence[tuple[Image, str]], cache: Path
) -> None:
    """Bring what the cluster does not have yet."""
    keys = {reference: key for image, key in built for reference in image.references if not target.has(reference, key)}
    if not keys:
        print("images: the cluster has all of them", flush=True)
        return
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".archive-", dir=cache) as folder:
        archive = Path(folder, "images.tar")
        tool.save(list(keys), archive)
        size = archive.stat().st_size / 1e6
        target.load(archive, keys)
    print(f"images: loaded {', '.join(keys)} ({size:.0f} MB) in {time.monotonic() - began:.1f} s", flush=True)


def run(arguments: argparse.Namespace) -> None:
    """All of it, in order: what can be refused is refused before anything is built."""
    images = selected(arguments.image, loading=bool(arguments.load))
    target = None
    if arguments.load:
        target = Containerd() if arguments.load == CLUSTER else Command(arguments.load)
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    tool = engine.Engine(engine.choose(arguments.engine or None, engine.problems()), cache / "logs")
    choice = base.choose(arguments.base or None, engine=tool.name, ci=os.environ.get("CI") == "true")
    with only_one(cache):
        reference = base.obtain(choice, tool, cache, pin=arguments.pin)
        print(f"images: {tool.name}, on {reference}", flush=True)
        builder = Builder(tool, reference, cache)
        built = [(image, builder.build(image)) for image in images]
        if target is not None:
            load_all(tool, target, built, cache)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make images ARGS=", description="Build the images of infra/images.")
    parser.add_argument("image", nargs="*", help="only these, such as innkeeper")
    parser.add_argument("--base", help="BASE=: the image they are built on; local: made here by mmdebstrap")
    parser.add_argument("--engine", help="ENGINE=: docker, podman or buildah; else the first that answers")
    parser.add_argument("--load", help="LOAD=: cluster, or a command with {} for an image's file")
    parser.add_argument("--pin", action="store_true", help="PIN=1: accept the base's present digest")
    try:
        run(parser.parse_args())
    except ImagesError as error:
        sys.exit(f"images: {error}")
    except KeyboardInterrupt:
        sys.exit("images: interrupted; what was built stays")


if __name__ == "__main__":
    main()
