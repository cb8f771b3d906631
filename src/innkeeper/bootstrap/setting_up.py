"""A state database made ready for an installation in a cluster. Called by ``inn db setup|wait``, that is by the chart.

``set_up`` is what the chart's Job and hook run: roles and database where an administrator's connection string is given,
the schema, and what INN_SETUP lists. All of it is idempotent, may be cut short anywhere, and two at once take turns.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from innkeeper.bootstrap.prepare import sample_spec
from innkeeper.control import apps, appspec, instances
from innkeeper.logs.redaction import Secret
from innkeeper.model import ids
from innkeeper.model.app import App
from innkeeper.model.errors import Conflict, InvalidInput, TemporaryError
from innkeeper.model.workspace import Cluster
from innkeeper.settings.environment import Environment
from innkeeper.store import apps as app_rows
from innkeeper.store import audit, schema
from innkeeper.store import clusters as cluster_rows
from innkeeper.store import instances as instance_rows
from innkeeper.store.session import Database, Session

ACTOR = "setup"
"""Who does this, in the audit trail."""

_AGAIN = 1.0
"""Seconds between two looks at a server that does not answer yet, or has no schema yet."""

Said = Callable[[str], None]
T = TypeVar("T")


def set_up(*, timeout: float, say: Said) -> None:
    """Do what is still to be done; ``TemporaryError`` if the server does not answer within ``timeout`` seconds."""
    environment = Environment()
    wanted = _parse(environment.setup)
    owner = environment.owner_dsn
    deadline = time.monotonic() + timeout
    admin = environment.admin_dsn
    if admin is not None:
        dsns = (owner, environment.state.dsn, environment.gateway_dsn)
        _patiently(lambda: _create(admin, dsns, say), deadline, say)
    _patiently(lambda: _upgrade(owner, movable=bool(wanted.get("movable", False)), say=say), deadline, say)
    database = Database(environment.state.dsn.reveal(), application="innkeeper setup", size=1)
    try:
        with database.transaction() as session:
            # Two at once (the chart's Job and its hook) would both find nothing.
            session.execute("SELECT pg_advisory_xact_lock(hashtext('innkeeper.setup'))")
            if "cluster" in wanted:
                _register_cluster(session, wanted["cluster"], say)
            for instance in wanted.get("instances", []):
                _register_instance(session, instance, say)
            for app in _apps(wanted):
                _register_app(session, app, say)
    finally:
        database.close()
    say("the state database is set up")


def wait(*, timeout: float, say: Said) -> None:
    """Return when the schema is at least this version's; ``TemporaryError`` if that takes longer.

    A newer one will do: the version before runs on it (invariant I13), as after ``helm rollback``.
    """
    dsn = Environment().state.dsn

    def look() -> str | None:
        with psycopg.connect(dsn.reveal(), connect_timeout=5) as connection:
            return schema.version(connection)

    deadline = time.monotonic() + timeout
    said = False
    while True:
        found = _patiently(look, deadline, say)
        if found is not None and found >= schema.HEAD:
            return
        if time.monotonic() > deadline:
            message = f"the schema is {found or 'not there'}, and {schema.HEAD} is needed: run inn db upgrade"
            raise TemporaryError(message)
        if not said:
            say(f"waiting for the schema: it is {found or 'not there'}, and {schema.HEAD} is needed")
            said = True
        time.sleep(_AGAIN)


# --- the database ----------------------------------------------------------------------------------------------------


def _create(admin: Secret, dsns: tuple[Secret, Secret, Secret], say: Said) -> None:
    """Login roles with the passwords of their connection strings, and the database that these name."""
    places = [conninfo_to_dict(dsn.reveal()) for dsn in dsns]
    for role, place in zip(schema.ROLES, places, strict=True):
        if place.get("user") != role or not place.get("password"):
            raise InvalidInput(f"the connection string of {role} must name that user and its password")
    names = {str(place.get("dbname") or place.get("user")) for place in places}
    if len(names) != 1:
        raise InvalidInput(f"the connection strings name different databases ({', '.join(sorted(names))}): name one")
    (name,) = names
    passwords = {role: str(place["password"]) for role, place in zip(schema.ROLES, places, strict=True)}
    with psycopg.connect(admin.reveal(), autocommit=True, connect_timeout=5) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('innkeeper.setup'))")
        schema.create_roles(admin.reveal(), passwords)
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            if connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() != (True,):
                # An administrator of a managed server makes it for another role only as its member.
                connection.execute("GRANT innkeeper_owner TO CURRENT_USER")
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER innkeeper_owner TEMPLATE template0").format(sql.Identifier(name))
            )
            say(f"made database {name}")


def _upgrade(owner: Secret, *, movable: bool, say: Said) -> None:
    with psycopg.connect(owner.reveal(), connect_timeout=5) as connection:
        before = schema.version(connection)
    if before is not None and before > schema.HEAD:
        # After a rollback; the newer version's schema serves this one too.
        say(f"the schema is {before}, newer than this version's {schema.HEAD}: left as it is")
        return
    schema.initialise(owner.reveal(), movable=movable)
    if before != schema.HEAD:
        say(f"the schema was upgraded from {before or 'nothing'} to {schema.HEAD}")


def _patiently(act: Callable[[], T], deadline: float, say: Said) -> T:
    """Try until the server answers."""
    said = ""
    while True:
        try:
            return act()
        except psycopg.OperationalError as error:
            # Not chained: libpq may quote the connection string.
            reason = " ".join(str(error).split()).rpartition("failed: ")[2]
        if time.monotonic() > deadline:
            raise TemporaryError(f"the state database does not answer: {reason}; check its connection string")
        if reason != said:
            say(f"waiting for the state database: {reason}")
            said = reason
        time.sleep(_AGAIN)


# --- what is registered ----------------------------------------------------------------------------------------------


def _parse(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidInput("INN_SETUP is a JSON object with instances, apps, cluster, movable", field="INN_SETUP")
    return cast("dict[str, Any]", found)


def _register_cluster(session: Session, wanted: dict[str, Any], say: Said) -> None:
    """The cluster that the product itself runs on; what is known of it already stays."""
    if cluster_rows.find(session, wanted["name"]) is not None:
        return
    peers = tuple(wanted.get("dns_peers", ()))
    made = Cluster(
        ids.prefixed("cls"), wanted["name"], "kubernetes", "in-cluster", "open", int(wanted["capacity"]), peers
    )
    cluster_rows.insert(session, made)
    audit.append(session, actor=ACTOR, action="cluster.add", target=made.id, detail={"name": made.name})
    say(f"registered cluster {made.name}")


def _register_instance(session: Session, wanted: dict[str, Any], say: Said) -> None:
    known = instance_rows.find(session, wanted["name"])
    if known is None:
        instances.add(session, actor=ACTOR, **wanted)
        say(f"registered instance {wanted['name']}")
        return
    reached = {
        "host": wanted["host"],
        "port": wanted["port"],
        "admin_secret": wanted["admin_secret"],
        "ssl_mode": wanted.get("ssl_mode", ""),
    }
    if any(getattr(known, name) != value for name, value in reached.items()):
        instance_rows.move(session, known.id, **reached)
        how = f", sslmode {reached['ssl_mode']}" if reached["ssl_mode"] else ""
        say(f"instance {known.name} is at {wanted['host']}:{wanted['port']}{how} now")


def _apps(wanted: dict[str, Any]) -> list[App]:
    found = [appspec.parse(json.dumps(spec).encode()) for spec in wanted.get("apps", [])]
    image = wanted.get("sample_image")
    return [*found, replace(appspec.load(sample_spec()), image=str(image), directory="")] if image else found


def _register_app(session: Session, app: App, say: Said) -> None:
    known = app_rows.by_version(session, app.name, app.version)
    if known is None:
        apps.register(session, actor=ACTOR, app=app)
        say(f"registered app {app.name} {app.version}")
        for warning in appspec.warnings(app):
            say(f"warning: app {app.name}: {warning}")
    elif replace(appspec.from_json(known["spec"]), directory="") != replace(app, directory=""):
        message = f"app {app.name} {app.version} is registered with another spec: give the changed one a new version"
        raise Conflict(message)
