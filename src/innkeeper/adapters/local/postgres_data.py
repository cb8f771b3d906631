"""An embedded PostgreSQL's data directory: made whole or not at all, and refused when of another version.

Called by embedded_postgres.py before it starts a server.
"""

import shutil
import tempfile
from pathlib import Path

from innkeeper.adapters.local import postgres_trouble as trouble
from innkeeper.adapters.local.postgres_config import initdb_options
from innkeeper.adapters.local.postgres_install import Launcher, major_version
from innkeeper.model.errors import PermanentError

INIT_TIMEOUT = 120.0
"""Seconds for initdb, which takes 0.3-0.5 on an idle machine."""


def check_version(data: Path) -> None:
    """``PermanentError`` if it is there and of another PostgreSQL than ours."""
    try:
        found = int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return
    except ValueError:
        raise PermanentError(
            f"{data} is not a PostgreSQL data directory (PG_VERSION holds no number): "
            "restore it, or choose another data directory",
            reason="data-damaged",
        ) from None
    ours = major_version()
    if found == ours:
        return
    age, advice = (
        ("newer", "install the Innkeeper it belongs to")
        if found > ours
        else ("older", "dump it with the Innkeeper that made it")
    )
    raise PermanentError(
        f"{data} was made by PostgreSQL {found}, which is {age} than the {ours} of this installation: "
        f"{advice}, or choose another data directory",
        reason=f"data-{age}",
    )


def make(directory: Path, launcher: Launcher, *, password_file: Path, durable: bool) -> None:
    """Run initdb beside the final place and rename, so that a directory named data is always whole."""
    for abandoned in directory.glob(".initdb-*"):
        shutil.rmtree(abandoned)
    building = Path(tempfile.mkdtemp(prefix=".initdb-", dir=directory))
    launcher.own(building)
    data = building / "data"
    options = initdb_options(data=str(data), password_file=str(password_file), durable=durable)
    done = launcher.run("initdb", *options, timeout=INIT_TIMEOUT)
    if done.returncode != 0:
        shutil.rmtree(building)
        raise trouble.initdb_failure(done.stdout.strip().splitlines(), directory)
    data.rename(directory / "data")
    building.rmdir()
