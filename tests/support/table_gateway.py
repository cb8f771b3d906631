"""A gateway played by a test through the tables and grants that a real agent uses. For tests of the control layer.

It does what the agent does in the database and nothing else; the real agent, with a real HAProxy, is tested against
the same tables in tests/integration/test_gateway_*.py and end to end in tests/e2e.
"""

import threading
from types import TracebackType
from typing import Self

import psycopg
from psycopg.rows import DictRow, dict_row

AT_LEAST_EVERY = 0.2
"""Seconds between two readings that nobody asks for. Whoever waits for one asks, and it comes at once."""


class TableGateway:
    """Registers, reads, acknowledges and drains at once, in a thread, until it is closed or ``silent``."""

    def __init__(self, dsn: str, *, gateway_id: str = "gw-1", boot_id: str = "boot-1") -> None:
        self.gateway_id, self.boot_id = gateway_id, boot_id
        self.counts: dict[str, int] = {}
        self.open_streams: dict[str, int] = {}
        self.silent = threading.Event()
        self._reported: dict[str, tuple[int, int]] = {}
        self._dsn = dsn
        self._read_no = 0
        self._drain_no = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[DictRow] = psycopg.Connection[DictRow].connect(
            dsn, autocommit=True, row_factory=dict_row
        )
        self._connection.execute(
            "INSERT INTO gateways (gateway_id, boot_id) VALUES (%s, %s)", (self.gateway_id, self.boot_id)
        )
        self.read()
        self._thread = threading.Thread(target=self._follow, name="table-gateway", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        try:
            self._connection.execute("SELECT pg_notify('reads', '')")  # it waits for news
        finally:
            self._thread.join()
            self._connection.close()

    def count(self, workspace_id: str, requests: int = 1) -> None:
        """So many requests were answered (reported by the next reading)."""
        with self._lock:
            self.counts[workspace_id] = self.counts.get(workspace_id, 0) + requests

    def wake(self, workspace_id: str) -> None:
        """A request for a sleeper arrived."""
        with self._lock:
            self._connection.execute(
                "INSERT INTO wake_requests (workspace_id, gateway_id) VALUES (%s, %s)", (workspace_id, self.gateway_id)
            )
            self._connection.execute("SELECT pg_notify('wake', %s)", (workspace_id,))

    def silence(self) -> None:
        """Say nothing from here on; what was being said has been committed when this returns."""
        with self._lock:
            self.silent.set()

    def read(self) -> int:
        """One reading of all counters; its number."""
        with self._lock, self._connection.transaction():
            return self._read()

    def _read(self) -> int:
        self._read_no += 1
        key = (self.gateway_id, self.boot_id, self._read_no)
        self._connection.execute("INSERT INTO gateway_reads (gateway_id, boot_id, read_no) VALUES (%s, %s, %s)", key)
        for workspace_id in {*self.counts, *self.open_streams}:
            now = (self.counts.get(workspace_id, 0), self.open_streams.get(workspace_id, 0))
            before = self._reported.get(workspace_id, (0, 0))
            if now != before or now[1]:
                self._connection.execute(
                    "INSERT INTO activity VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    (*key, workspace_id, now[0] - before[0], 0, now[1]),
                )
                self._reported[workspace_id] = now
        return self._read_no

    def _follow(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as listener:
            listener.execute("LISTEN routes")
            listener.execute("LISTEN reads")
            seen: dict[str, int] = {}
            while not self._stop.is_set():
                with self._lock:
                    if not self.silent.is_set():
                        with self._connection.transaction():
                            self._catch_up(seen)
                for _ in listener.notifies(timeout=AT_LEAST_EVERY, stop_after=1):
                    pass

    def _catch_up(self, seen: dict[str, int]) -> None:
        rows = self._connection.execute("SELECT workspace_id, status, version FROM routes").fetchall()
        news = [row for row in rows if seen.get(row["workspace_id"]) != row["version"]]
        clock = self._connection.execute("SELECT version FROM route_clock").fetchone()
        assert clock is not None
        if news or "" not in seen:
            self._connection.execute(
                "INSERT INTO acknowledgements (gateway_id, boot_id, version) VALUES (%s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                (self.gateway_id, self.boot_id, clock["version"]),
            )
            seen[""] = 0
        read_no = self._read()
        for row in news:
            seen[row["workspace_id"]] = row["version"]
        for row in rows:
            if row["status"] != "awake" and (row in news or self.open_streams.get(row["workspace_id"])):
                self._drain_no += 1
                streams = self.open_streams.get(row["workspace_id"], 0)
                if streams:
                    seen.pop(row["workspace_id"])
                self._connection.execute(
                    "INSERT INTO drains (gateway_id, boot_id, workspace_id, version, drain_no, open_streams, read_no)"
                    " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    (
                        self.gateway_id,
                        self.boot_id,
                        row["workspace_id"],
                        row["version"],
                        self._drain_no,
                        streams,
                        read_no,
                    ),
                )
        if news:
            self._connection.execute("SELECT pg_notify('gateway', '')")
