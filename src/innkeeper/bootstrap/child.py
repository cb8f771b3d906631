"""What the Python children of ``inn dev`` run: ``python -m innkeeper.bootstrap.child ROLE --data DIR ...``.

Each imports what it needs while the databases are still starting, then waits at its leash until it may go on.
"""

import argparse
import sys
from pathlib import Path

from innkeeper.adapters.local.data_directory import DataDirectory
from innkeeper.adapters.local.importing import uncollected
from innkeeper.adapters.local.leash import Tied
from innkeeper.bootstrap.local import Local
from innkeeper.logs.setup import configure
from innkeeper.model.errors import InnkeeperError


def main() -> int:
    """Run one role until told to end; the exit status."""
    parser = argparse.ArgumentParser(prog="innkeeper.bootstrap.child")
    parser.add_argument("role", choices=("prepare", "web", "worker", "gateway"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--app", type=Path)
    parser.add_argument("--descriptor", type=int)
    parser.add_argument("--spares", type=int)
    arguments = parser.parse_args()
    tied = Tied()
    configure(form="console")
    local = Local(DataDirectory(arguments.data), arguments.port)
    try:
        return _run(arguments, local, tied)
    except InnkeeperError as error:
        tied.fail(error)
        return 1


def _run(arguments: argparse.Namespace, local: Local, tied: Tied) -> int:
    match arguments.role:
        case "prepare":
            with uncollected():
                from innkeeper.bootstrap.prepare import prepare

            tied.wait()
            prepare(local, tied, app_file=arguments.app)
        case "web":
            with uncollected():
                from innkeeper.bootstrap.web import serve_local

            serve_local(local, tied, descriptor=arguments.descriptor)
        case "worker":
            with uncollected():
                from innkeeper.bootstrap.working import work_local

            work_local(local, tied, spares=arguments.spares)
        case _:
            with uncollected():
                from innkeeper.bootstrap.gateway import attend_local

            return attend_local(local, tied)
    return 0


if __name__ == "__main__":
    sys.exit(main())
