"""The development issuer (issuer_app.py) as a process. Started by the supervisor with issuer.issuer_command()."""

import argparse
import signal
import sys
from pathlib import Path

from innkeeper.adapters.local.importing import uncollected


def main() -> None:
    """Serve until ended by a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    # As the first process of a container it would ignore the signal.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    with uncollected():
        from innkeeper.adapters.local.issuer_app import make_issuer  # noqa: PLC0415 - so that it is uncollected

        server = make_issuer(arguments.directory, host=arguments.host, port=arguments.port)
    server.serve_forever()


if __name__ == "__main__":
    main()
