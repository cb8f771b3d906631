"""Brings the state database of local mode up to date, once at each start, before anything else uses it.

Run by child.py in a process of its own: migrations need 25 MB that no serving process should carry. Everything here
may be cut short and run again.
"""

import sys
from dataclasses import replace
from pathlib import Path

import psycopg
from psycopg import sql

from innkeeper.adapters.keyfile import KeyFile
from innkeeper.adapters.local.data_directory import write_private
from innkeeper.adapters.local.leash import Tied
from innkeeper.adapters.local.postgres_config import HOST
from innkeeper.bootstrap.local import POOL_CONNECTIONS, POOL_DATABASES, STATE_DATABASE, Local
from innkeeper.control import apps, appspec, clusters, instances, tokens
from innkeeper.model.app import App
from innkeeper.store import apps as app_rows
from innkeeper.store import instances as instance_rows
from innkeeper.store import schema
from innkeeper.store.session import Database, Session

ACTOR = "local"
"""Who does this, in the audit trail."""


def prepare(local: Local, tied: Tied, *, app_file: Path | None) -> None:
    """Database, roles, schema, instances, cluster, app, token. One line for the person about what changed."""
    KeyFile.create(local.key_file)
    _make_database(local)
    schema.initialise(local.state_dsn("innkeeper_owner"), movable=True)
    database = Database(local.state_dsn("innkeeper_app"), application="innkeeper prepare", size=1)
    try:
        with database.transaction() as session:
            for number in local.data.pools():
                _register_instance(session, local, f"pool-{number}")
            clusters.add_local(session, actor=ACTOR)
            said = _register_app(session, app_file)
            _follow_issuer(session, local)
            _make_token(session, local)
    finally:
        database.close()
    if said:
        tied.say(said)


def sample_spec() -> Path:
    """The app that runs when no other was named."""
    return Path(__file__).parents[1] / "sample" / "app.yaml"


def _make_database(local: Local) -> None:
    admin = local.superuser_dsn("state")
    passwords = {role: local.role_password(role) for role in schema.ROLES}
    with psycopg.connect(admin, autocommit=True) as connection:
        known = connection.execute("SELECT count(*) FROM pg_roles WHERE rolname = ANY(%s)", (list(passwords),))
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (STATE_DATABASE,)).fetchone()
        if known.fetchone() == (len(passwords),) and found is not None:
            return
        schema.create_roles(admin, passwords)
        if found is None:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER innkeeper_owner TEMPLATE template0").format(
                    sql.Identifier(STATE_DATABASE)
                )
            )


def _register_instance(session: Session, local: Local, name: str) -> None:
    """Its row, true for this start: ports and the place of the data directory may have changed."""
    secret = local.data.secrets / f"{name}.dsn"
    dsn = local.superuser_dsn(name)
    if not secret.exists() or secret.read_text() != dsn:
        write_private(secret, dsn)
    port, reference = local.data.kept_ports()[name], f"file:{secret}"
    known = instance_rows.find(session, name)
    if known is None:
        instances.add(
            session,
            actor=ACTOR,
            name=name,
            host=HOST,
            port=port,
            admin_secret=reference,
            database_capacity=POOL_DATABASES,
            connection_capacity=POOL_CONNECTIONS,
        )
    elif (known.host, known.port, known.admin_secret) != (HOST, port, reference):
        instance_rows.move(session, known.id, host=HOST, port=port, admin_secret=reference, ssl_mode=known.ssl_mode)


def _register_app(session: Session, file: Path | None) -> str | None:
    """The app this installation serves; a line when something about it changed."""
    app = appspec.load(file or sample_spec())
    known = app_rows.by_version(session, app.name, app.version)
    if known is None:
        apps.register(session, actor=ACTOR, app=app)
        return f"registered {app.name} {app.version}" if file else None
    if not _same(appspec.from_json(known["spec"]), app):
        app_rows.replace_spec(session, known["id"], appspec.to_json(app))
        return f"{app.name} {app.version} has changed since it was registered: new starts use the file as it is now"
    return None


def _same(one: App, other: App) -> bool:
    return replace(one, directory="") == replace(other, directory="") and one.directory == other.directory


def _follow_issuer(session: Session, local: Local) -> None:
    """People are keyed by the issuer's address; if its port had to change, they are the same people still."""
    session.execute(
        "UPDATE users SET issuer = %(now)s WHERE issuer <> %(now)s AND issuer LIKE 'http://localhost:%%'",
        {"now": local.issuer_url},
    )


def _make_token(session: Session, local: Local) -> None:
    """The command line's: made again when its file was lost."""
    if not local.data.token_file.exists():
        _, text = tokens.create(session, actor=ACTOR, name="inn dev", scopes=["admin"], life=tokens.form.LIFE_MAX)
        write_private(local.data.token_file, text + "\n")


if __name__ == "__main__":  # pragma: no cover
    sys.exit("started by inn dev")
