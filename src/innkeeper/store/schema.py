"""Bringing a state database to life and up to date: roles, migrations, the installation row.

Called by ``inn db``, by local mode before anything else starts, and by the tests' template. Alembic is imported only
here, inside the functions that need it, since no serving process should carry it.
"""

import psycopg
from psycopg import sql

from innkeeper.model import errors

HEAD = "0006"
"""The newest migration; a database beyond it belongs to a newer version of the product."""

ROLES = ("innkeeper_owner", "innkeeper_app", "innkeeper_gateway")


def create_roles(admin_dsn: str, passwords: dict[str, str]) -> None:
    """Make or refresh the three login roles of the state server; ``passwords`` by role name. Idempotent."""
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        for role in ROLES:
            found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
            verb = "ALTER" if found else "CREATE"
            verifier = connection.pgconn.encrypt_password(passwords[role].encode(), role.encode(), b"scram-sha-256")
            connection.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                    sql.SQL(verb), sql.Identifier(role), sql.Literal(verifier.decode())
                )
            )


def initialise(owner_dsn: str, *, movable: bool) -> None:
    """Migrate an empty or older database to ``HEAD`` and write the installation row if there is none.

    ``owner_dsn`` connects as the database's owner role. Raises ``Conflict`` for a database of a newer version or one
    initialised with the other ``movable``. Two at once take turns.
    """
    with psycopg.connect(owner_dsn, autocommit=True, options="-c client_min_messages=warning") as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('innkeeper.migrate'))")
        found = version(connection)
        if found is not None and found > HEAD:
            message = f"the data belong to a newer Innkeeper (schema {found}, this one knows {HEAD}): use that version"
            raise errors.Conflict(message)
        if found != HEAD:
            _upgrade(owner_dsn)
        _close_to_strangers(connection)
        connection.execute("INSERT INTO installation (movable) VALUES (%s) ON CONFLICT DO NOTHING", (movable,))
        row = connection.execute("SELECT movable FROM installation").fetchone()
        if row is not None and row[0] != movable:
            kind = "movable" if row[0] else "fixed"
            raise errors.Conflict(f"this installation was initialised with a {kind} clock, for life")


def _close_to_strangers(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    """Nobody but the owner makes temporary tables, which a gateway could fill the disk with.

    A right of the database, which a restored or cloned one does not bring along: asked each time. Who is not the
    database's owner changes nothing by it.
    """
    row = connection.execute(
        "SELECT current_database(), has_database_privilege('public', current_database(), 'TEMPORARY')"
    ).fetchone()
    if row is not None and row[1]:
        connection.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(sql.Identifier(str(row[0]))))


def version(connection: "psycopg.Connection[tuple[object, ...]]") -> str | None:
    """The schema's revision (four digits, in order of age); None for an empty database."""
    table = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
    if table is None or table[0] is None:
        return None
    row = connection.execute("SELECT max(version_num) FROM alembic_version").fetchone()
    return None if row is None or row[0] is None else str(row[0])


def _upgrade(owner_dsn: str, revision: str = "head") -> None:
    from alembic import command  # noqa: PLC0415 - 25 MB that no serving process should carry
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "innkeeper:store/migrations")
    config.attributes["dsn"] = owner_dsn
    command.upgrade(config, revision)
