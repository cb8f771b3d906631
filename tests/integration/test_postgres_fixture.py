"""The fixtures of support/postgres.py: a database per test, templates built once."""

import psycopg

from support.postgres import FreshDatabase, Template

built: list[str] = []


def _build(dsn: str) -> None:
    built.append(dsn)
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE made_once (n int)")


NUMBERS = Template("numbers", _build)


def _count(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO made_once VALUES (1)")
        row = connection.execute("SELECT count(*) FROM made_once").fetchone()
    assert row is not None
    return row[0]


def test_each_copy_of_a_template_is_separate_and_the_template_is_built_once(fresh_database: FreshDatabase):
    first, second = fresh_database(template=NUMBERS), fresh_database(template=NUMBERS)
    assert first != second
    assert (_count(first), _count(second)) == (1, 1)
    assert len(built) == 1


def test_a_database_without_template_is_empty(fresh_database: FreshDatabase):
    with psycopg.connect(fresh_database()) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert row == (0,)
