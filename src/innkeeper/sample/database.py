"""The guest book's tables and every statement on them. Called by the request threads.

One connection for all threads is plenty (psycopg lets them take turns), and shows a tenant that keeps its limit.
"""

import select
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

_TABLES = """\
create table if not exists counter (name text primary key, value bigint not null);
create table if not exists note (
    id bigint generated always as identity primary key,
    text text not null,
    written_at timestamptz not null default now()
);
"""

_ADD_ONE = """\
insert into counter (name, value) values (%s, 1)
on conflict (name) do update set value = counter.value + 1
returning value
"""

SHOWN = 50
"""Notes on the page, newest first."""


class UnavailableError(Exception):
    """The database did not answer; whether the statement took effect is not known."""


@dataclass(frozen=True, slots=True)
class Note:
    """One entry of the guest book."""

    text: str
    written_at: datetime


class Database:
    """``name`` is the database's own name: whose data these are, whoever asked."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        try:
            self._connection = self._connect()
            self._connection.execute(_TABLES)
        except psycopg.Error as error:
            raise UnavailableError(str(error).strip()) from error

    @property
    def name(self) -> str:
        return self._connection.info.dbname

    def ping(self) -> None:
        """Raise ``UnavailableError`` unless the database answers."""
        self._rows("select 1", ())

    def count(self, name: str) -> int:
        """A counter as it stands."""
        rows = self._rows("select value from counter where name = %s", (name,))
        return int(rows[0][0]) if rows else 0

    def add_one(self, name: str) -> int:
        """Count one up, once or not at all, and return the new value."""
        return int(self._rows(_ADD_ONE, (name,))[0][0])

    def write(self, text: str) -> None:
        self._rows("insert into note (text) values (%s) returning id", (text,))

    def notes(self) -> list[Note]:
        rows = self._rows("select text, written_at from note order by id desc limit %s", (SHOWN,))
        return [Note(text, written_at) for text, written_at in rows]

    def _rows(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        # Never a second try: a statement whose answer was lost may have counted already.
        try:
            with self._lock:
                if not self._stands():
                    self._connection = self._connect()
                return self._connection.execute(statement.encode(), values).fetchall()
        except psycopg.OperationalError as error:
            raise UnavailableError(str(error).splitlines()[0]) from error

    def _stands(self) -> bool:
        """Whether the connection can be used. What a server says unasked is, nearly always, that it ended it."""
        if self._connection.closed:
            return False
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLIN)
        if poll.poll(0):
            try:
                self._connection.execute("select 1")
            except psycopg.OperationalError:
                return False
        return True

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self._url, autocommit=True, connect_timeout=10, application_name="sample")
