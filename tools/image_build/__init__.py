"""Builds the images of infra/images and brings them into a cluster without a registry. Called by `make images`.

catalogue.py says what there is, base.py on what it is built, wheels.py fetches packages, context.py stages what a build
sees, engine.py speaks to docker, podman or buildah, load.py to a cluster; __main__.py puts them together.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LABEL = "innkeeper.dev/built-from"
"""On each image: the hash of all it was built from, so that what has not changed is not built again."""


class ImagesError(Exception):
    """One line for a person: what is wrong and what to do."""
