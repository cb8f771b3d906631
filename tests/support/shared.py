"""What one worker makes and all others copy. Called by support that has something which takes long to make."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder of this run, made by the first worker that asks; ``make`` gets where to, and leaves nothing running."""
    own = factory.getbasetemp()
    everyones = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    made, making = everyones / name, everyones / f"{name}-in-the-making"
    with (everyones / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            try:
                make(making)
                making.rename(made)
            finally:
                shutil.rmtree(making, ignore_errors=True)
    return made
