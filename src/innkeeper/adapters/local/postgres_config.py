"""Settings of an embedded PostgreSQL server, pure. Called by embedded_postgres.py.

They are given on the command line at every start, never kept in the data directory: what runs is what this file says,
also for data made by an older version of it.
"""

import sys
from collections.abc import Mapping

HOST = "127.0.0.1"

LOOPBACK = f"{HOST}/32"
EVERYWHERE = "all"


def hba(clients: str) -> str:
    """Who may connect: one way in, TCP from ``clients``, with a password that is never sent. Written at every start."""
    return f"host all all {clients} scram-sha-256\n"


def server_settings(
    *, port: int, hba_file: str, max_connections: int, name: str, durable: bool, extra: Mapping[str, str]
) -> dict[str, str]:
    """Everything that differs from PostgreSQL's own defaults; ``extra`` has the last word."""
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        # No socket file: its path would be limited to 107 bytes, and TCP with a password is enough.
        "unix_socket_directories": "",
        "hba_file": hba_file,
        "password_encryption": "scram-sha-256",
        # DROP DATABASE waits for every session, and one that has not said who it is hears nothing (60 s by default).
        "authentication_timeout": "10s",
        "cluster_name": name,
        "max_connections": str(max_connections),
        # The control plane gets in even when applications hold every connection that is left.
        "superuser_reserved_connections": "5",
        # No tenant can leave a prepared transaction behind.
        "max_prepared_transactions": "0",
        # Small: a laptop runs several of these.
        "shared_buffers": "32MB",
        "min_wal_size": "32MB",
        "max_wal_size": "256MB",
        "io_method": "sync",  # the default keeps three worker processes per server
        "max_worker_processes": "4",
        "max_parallel_workers_per_gather": "0",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        # Our own lines and what ends a connection or the server. Tenants' failing statements are theirs, not the log's.
        "log_min_messages": "log",
        "log_min_error_statement": "panic",
        "log_statement": "none",
        "log_checkpoints": "off",
    }
    if sys.platform.startswith("linux"):
        # Thousands of databases are tens of thousands of files; opening each after a crash takes minutes.
        settings["recovery_init_sync_method"] = "syncfs"
    if not durable:
        # Tests only: survives the death of processes, not of the machine.
        settings |= {"fsync": "off", "full_page_writes": "off"}
    return {**settings, **extra}


def initdb_options(*, data: str, password_file: str, durable: bool) -> list[str]:
    """Options of initdb. C.UTF-8 is built into PostgreSQL: the same order on every machine, no libc or ICU involved."""
    options = [
        f"--pgdata={data}",
        "--username=postgres",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
        "--no-instructions",
    ]
    return options if durable else [*options, "--no-sync"]
