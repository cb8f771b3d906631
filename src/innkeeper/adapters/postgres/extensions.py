"""Which extensions an application may ask for. Used by databases.py; ``inn app check`` shows what an instance lacks.

The administrator installs them, so a script of theirs runs with its rights in a schema that the tenant owns. Allowed
are those whose scripts are written for that (PostgreSQL marks them ``trusted``) and that reach nothing outside their
database. Not allowed: links to other servers (dblink, postgres_fdw), files (file_fdw), views of the whole server
(pg_stat_statements, pg_buffercache, pageinspect, ...).
"""

from collections.abc import Collection, Sequence

from innkeeper.model.errors import PermanentError

ALLOWED = frozenset(
    {
        "btree_gin",
        "btree_gist",
        "citext",
        "cube",
        "dict_int",
        "fuzzystrmatch",
        "hstore",
        "intarray",
        "isn",
        "lo",
        "ltree",
        "pg_trgm",
        "pgcrypto",
        "seg",
        "tablefunc",
        "tsm_system_rows",
        "tsm_system_time",
        "unaccent",
        "uuid-ossp",
        "vector",
    }
)


def check(wanted: Sequence[str], available: Collection[str]) -> None:
    """``PermanentError`` that names what is refused here or missing on the instance."""
    refused = sorted(set(wanted) - ALLOWED)
    if refused:
        raise PermanentError(
            f"extension {', '.join(refused)} is not allowed on a shared server: remove it from the app spec",
            reason="extension-refused",
        )
    missing = sorted(set(wanted) - set(available))
    if missing:
        raise PermanentError(
            f"extension {', '.join(missing)} is not installed on the database server: "
            "install it there, or remove it from the app spec",
            reason="extension-missing",
        )
