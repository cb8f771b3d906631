"""What a tenant may do on a shared server, as SQL, pure. Used by databases.py, logins.py and prepare.py.

Three places, three sets of statements:

- **roles and database** (shared catalogues, so from the admin database, in one transaction with the fence):
  the owner never logs in; the tenant's role has no attribute but LOGIN; CONNECT and TEMPORARY for that role only.
  TEMPORARY stays because applications and pg_restore use temporary tables; ``temp_file_limit`` bounds their spill.
- **inside the database, the same for all**: in a private template nobody can connect to, so a new database has it from
  its first moment. PostgreSQL shows every user the sessions, locks, statistics, prepared transactions and role settings
  of the whole server; here nobody but the administrator sees them.
- **inside the database, per tenant**: the role owns schema public and nothing else. It has no CREATE on the database,
  so it cannot make schemas, publications or install extensions; those it may have are installed for it.

What stays visible is names: of databases and roles, which are random. Large objects stay usable (they live in the
tenant's own database). NOTIFY cannot be withheld: its queue is shared, its messages are not.

``VERSION`` says which inside a database has; the journal keeps it, so a wake compares a number instead of connecting.
A tenant cannot undo the inside, since it owns none of it; raise ``HARDENING`` (model) whenever inside.sql changes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import LiteralString, cast

from psycopg import sql

from innkeeper.model.workspace import HARDENING, TenantDatabase

VERSION = HARDENING
TEMPLATE = f"innkeeper_template_{VERSION}"

TEMP_FILE_LIMIT = "1GB"
"""Of spilled sorts and temporary files per session; only the administrator can set or raise it."""

INSIDE = cast("LiteralString", Path(__file__).with_name("inside.sql").read_text())
"""For the template, and for databases whose ``VERSION`` is another."""

_NOTHING = sql.SQL("NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT")


def assert_roles(database: TenantDatabase) -> list[sql.Composed]:
    """Both roles exist and can do nothing. Whether the tenant's may log in is left as it is (a new one may not)."""
    role, owner = sql.Identifier(database.role), sql.Identifier(database.owner)
    return [
        sql.SQL("SELECT innkeeper.ensure_role({}), innkeeper.ensure_role({})").format(database.owner, database.role),
        sql.SQL("ALTER ROLE {} WITH NOLOGIN PASSWORD NULL CONNECTION LIMIT 0 {}").format(owner, _NOTHING),
        sql.SQL("ALTER ROLE {} WITH CONNECTION LIMIT {} {}").format(role, database.connections, _NOTHING),
        sql.SQL("ALTER ROLE {} SET temp_file_limit = {}").format(role, TEMP_FILE_LIMIT),
    ]


def assert_database(database: TenantDatabase) -> list[sql.Composed]:
    """The database is its owner's, open to the tenant's role and to no other."""
    name, role, owner = (sql.Identifier(part) for part in (database.name, database.role, database.owner))
    return [
        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, owner),
        sql.SQL("SELECT innkeeper.revoke_all({})").format(database.name),
        sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(name, role),
        sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true CONNECTION LIMIT -1 IS_TEMPLATE false").format(name),
    ]


def inside_tenant(database: TenantDatabase) -> list[sql.Composable]:
    """Run in the tenant's database: its role owns schema public, and the extensions of its app are there."""
    role = sql.Identifier(database.role)
    return [
        sql.SQL("CREATE SCHEMA IF NOT EXISTS public"),
        sql.SQL("REVOKE ALL ON SCHEMA public FROM PUBLIC"),
        sql.SQL("ALTER SCHEMA public OWNER TO {}").format(role),
        *(
            sql.SQL("CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA public").format(sql.Identifier(extension))
            for extension in database.extensions
        ),
    ]


def may_take(database: TenantDatabase, spare: TenantDatabase) -> sql.Composed:
    """Raises ``DRIFT`` unless the spare is whole, nobody works on it, and nothing of the database is there yet.

    Nor is anybody connected to it: RENAME waits five seconds for who is, and the sign-up with it.
    """
    return sql.SQL("""
        SELECT innkeeper.must_be(
          (SELECT intent = 'ready' AND hardening = {version} FROM innkeeper.tenants WHERE workspace_id = {spare})
          AND (SELECT intent = 'none' FROM innkeeper.tenants WHERE workspace_id = {ws})
          AND EXISTS (SELECT FROM pg_database WHERE datname = {name} AND datconnlimit = -1)
          AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = {name}
            AND backend_type IS DISTINCT FROM 'autovacuum worker')
          AND (SELECT count(*) = 2 AND bool_and(NOT rolcanlogin) FROM pg_roles WHERE rolname IN ({role}, {owner}))
          AND pg_try_advisory_xact_lock(innkeeper.lock_key({spare})), 'spare')
    """).format(
        version=VERSION,
        spare=spare.workspace_id,
        ws=database.workspace_id,
        name=spare.name,
        role=spare.role,
        owner=spare.owner,
    )


VERIFY: LiteralString = """
SELECT
  innkeeper.must_be(EXISTS (
    SELECT FROM innkeeper.tenants
     WHERE workspace_id = %(ws)s AND intent = 'ready' AND hardening = %(version)s
       AND extensions @> %(extensions)s::text[]
  ), 'journal'),
  innkeeper.must_be((
    SELECT datallowconn AND NOT datistemplate AND datconnlimit = -1 AND datdba = o.oid
           AND has_database_privilege(r.oid, d.oid, 'CONNECT') AND has_database_privilege(r.oid, d.oid, 'TEMPORARY')
           AND NOT EXISTS (
             SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) a
              WHERE a.grantee <> datdba
                AND (a.grantee <> r.oid OR a.is_grantable OR a.privilege_type NOT IN ('CONNECT', 'TEMPORARY')))
      FROM pg_database d, pg_roles o, pg_roles r
     WHERE d.datname = %(db)s AND o.rolname = %(owner)s AND r.rolname = %(role)s
  ), 'database'),
  innkeeper.must_be((
    SELECT count(*) = 2 AND bool_and(
             NOT (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)
             AND (rolname = %(role)s OR NOT rolcanlogin)
             AND NOT EXISTS (SELECT FROM pg_auth_members WHERE roles.oid IN (roleid, member)))
      FROM pg_roles roles WHERE rolname IN (%(role)s, %(owner)s)
  ), 'roles'),
  innkeeper.must_be(EXISTS (
    SELECT FROM pg_db_role_setting
     WHERE setdatabase = 0 AND setrole = (SELECT oid FROM pg_roles WHERE rolname = %(role)s)
       AND %(limit)s = ANY (setconfig)
  ), 'limits')
"""
"""Raises ``DRIFT`` on the server unless all of the above holds. Asks shared catalogues only, so from anywhere.

Compared instead of asserted because GRANT and ALTER DATABASE write rows that every backend has to notice, and a wake
should not. One text for all tenants: a session plans it once.
"""


def verified(database: TenantDatabase) -> dict[str, object]:
    """The values of ``VERIFY``."""
    return {
        "ws": database.workspace_id,
        "db": database.name,
        "role": database.role,
        "owner": database.owner,
        "version": VERSION,
        "extensions": list(database.extensions),
        "limit": f"temp_file_limit={TEMP_FILE_LIMIT}",
    }


def open_login(database: TenantDatabase, verifier: str, *, superuser: bool) -> sql.Composed:
    """The tenant's role may log in, with this verifier, within its connection limit.

    ALTER ROLE derives a key from the empty password with all of the verifier's rounds (3 ms), to refuse it. Where the
    catalogue may be written, the same row is: ADR 11.
    """
    if superuser:
        return sql.SQL(
            "UPDATE pg_authid SET rolcanlogin = true, rolpassword = {}, rolconnlimit = {}, rolvaliduntil = 'infinity'"
            " WHERE rolname = {}"
        ).format(verifier, database.connections, database.role)
    return sql.SQL("ALTER ROLE {} WITH LOGIN PASSWORD {} CONNECTION LIMIT {} VALID UNTIL 'infinity'").format(
        sql.Identifier(database.role), verifier, database.connections
    )


def instance(databases: Sequence[str]) -> list[sql.Composed]:
    """Tenants connect to none of the server's own databases."""
    return [sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)) for database in databases]


def close_login(database: TenantDatabase) -> list[sql.Composed]:
    """Neither role can log in, and the server keeps no verifier. Roles that do not exist are none to close."""
    return [sql.SQL("SELECT innkeeper.close_role({}), innkeeper.close_role({})").format(database.role, database.owner)]
