"""Connections that the tests' onlookers keep: making one costs a server more than what they ask. A pytest plugin.

    with kept(dsn) as state:                # autocommit; the same one next time, in this thread
        state.execute(...)

All are closed when the test ends. One whose server was killed is replaced at its next use.
"""

import select
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

_open: dict[tuple[str, str, int], psycopg.Connection[tuple[Any, ...]]] = {}


@contextmanager
def kept(dsn: str, *, database: str = "") -> Generator[psycopg.Connection[tuple[Any, ...]]]:
    """``database``: another one than the DSN names. Errors are the caller's; after one the connection is not kept."""
    key = (dsn, database, threading.get_ident())
    connection = _open.pop(key, None)
    if connection is None or not _answers(connection):
        connection = _connect(dsn, database)
    try:
        yield connection
    except BaseException:
        connection.close()
        raise
    if key in _open:  # somebody within the block used the same one
        connection.close()
    else:
        _open[key] = connection


def _connect(dsn: str, database: str) -> psycopg.Connection[tuple[Any, ...]]:
    if not database:
        return psycopg.connect(dsn, autocommit=True)
    return psycopg.connect(dsn, dbname=database, autocommit=True)


def _answers(connection: psycopg.Connection[tuple[Any, ...]]) -> bool:
    news = select.poll()
    news.register(connection.fileno(), select.POLLIN)
    if not news.poll(0):
        return True  # a server that ended would have hung up
    try:
        connection.execute("SELECT")
    except psycopg.OperationalError:
        connection.close()
        return False
    return True


def close() -> None:
    """All of them; also by whoever drops databases in the middle of a test."""
    while _open:
        _open.popitem()[1].close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    close()
