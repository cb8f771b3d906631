"""What an evaluation in a cluster has instead of production's own: PostgreSQL servers and a sign-in service.

Called by ``inn serve postgres`` and ``inn serve issuer``, each the first process of a container.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import structlog
from psycopg import sql

from innkeeper.adapters.local import issuer
from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.adapters.local.postgres_config import EVERYWHERE
from innkeeper.hub.services import callback_url
from innkeeper.model.errors import PermanentError
from innkeeper.settings import IssuerProcessSettings, PostgresProcessSettings

_LOOK = 0.2
"""Seconds between two looks at whether the server still runs and what it wrote."""

log = structlog.get_logger()


def serve_postgres(process: PostgresProcessSettings) -> int:
    """One server until SIGTERM; the exit status. Its log goes to standard output."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: told.set())
    server = EmbeddedPostgres(
        process.directory,
        port=process.port,
        max_connections=process.connections,
        settings={"listen_addresses": process.host},
        end_with_parent=True,
        clients=EVERYWHERE,
    )
    if server.data.is_dir():
        # Kubernetes gives a volume's files to a group, which PostgreSQL refuses.
        server.data.chmod(0o700)
    elif not server.password_file.exists():
        server.keep_password(process.password.reveal())
    follow = _follower(server.log_file)
    try:
        server.start()
        _set_password(server, process.password.reveal())
        log.info("postgres.serves", port=process.port, directory=str(process.directory))
        while server.alive() and not told.wait(_LOOK):
            follow()
        died = not server.alive()
        if died:
            log.error("postgres.ended")
    finally:
        server.stop()
        follow()
    return 1 if died else 0


def serve_issuer(process: IssuerProcessSettings) -> None:
    """Become the development issuer, whose ``iss`` is the public address."""
    setup = issuer.prepare(
        process.directory,
        port=process.port,
        redirect_uris=[callback_url(process.hub_url)],
        url=process.url,
        client=(process.client_id, process.client_secret.reveal()),
    )
    command = issuer.issuer_command(setup, host=process.host)
    os.chdir(setup.directory)
    os.execve(command[0], command, issuer.issuer_environment())  # noqa: S606 - no shell, and nothing to come back to


def _set_password(server: EmbeddedPostgres, wanted: str) -> None:
    """Make the superuser's password what it is wanted to be now: a volume may outlive the secret it was made with.

    The file says what the server knows, except after a death between the two lines below: then the server knows more.
    """
    before = server.password
    if before == wanted:
        return
    with suppress(psycopg.OperationalError), psycopg.connect(server.dsn(), autocommit=True) as connection:
        hashed = connection.pgconn.encrypt_password(wanted.encode(), b"postgres", b"scram-sha-256").decode()
        connection.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(hashed)))
    server.keep_password(wanted)
    try:
        psycopg.connect(server.dsn(), connect_timeout=5).close()
    except psycopg.OperationalError:
        server.keep_password(before)
        raise PermanentError(
            f"neither the password given nor the one in {server.password_file} opens this server: "
            "give the one it was last started with",
            reason="postgres-password",
        ) from None
    log.info("postgres.password_changed")


def _follower(path: Path) -> Callable[[], None]:
    """Copies what is added to a file to standard output at each call."""
    position = path.stat().st_size if path.exists() else 0

    def follow() -> None:
        nonlocal position
        if not path.exists():
            return
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < position:
                position = 0  # the server began a new file
            file.seek(position)
            added = file.read()
        position += len(added)
        sys.stdout.write(added.decode(errors="replace"))
        sys.stdout.flush()

    return follow
