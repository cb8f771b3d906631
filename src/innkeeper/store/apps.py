"""Registered applications; ``spec`` is what control/appspec.py made of the vendor's YAML."""

from typing import Any

from psycopg.types.json import Jsonb

from innkeeper.store.session import Session

_COLUMNS = "id, name, version, spec, created_at"


def insert(session: Session, *, app_id: str, name: str, version: str, spec: dict[str, Any]) -> None:
    """A new version of an app; ``Conflict`` if that version is registered."""
    session.execute(
        "INSERT INTO apps (id, name, version, spec) VALUES (%s, %s, %s, %s)", (app_id, name, version, Jsonb(spec))
    )


def by_id(session: Session, app_id: str) -> dict[str, Any] | None:
    """One registered version."""
    return session.execute(f"SELECT {_COLUMNS} FROM apps WHERE id = %s", (app_id,)).fetchone()


def newest(session: Session, name: str) -> dict[str, Any] | None:
    """The version of that app registered last."""
    return session.execute(
        f"SELECT {_COLUMNS} FROM apps WHERE name = %s ORDER BY created_at DESC, id DESC LIMIT 1", (name,)
    ).fetchone()


def by_version(session: Session, name: str, version: str) -> dict[str, Any] | None:
    """Exactly that version."""
    return session.execute(f"SELECT {_COLUMNS} FROM apps WHERE name = %s AND version = %s", (name, version)).fetchone()


def replace_spec(session: Session, app_id: str, spec: dict[str, Any]) -> None:
    """The same version read anew from its file (local mode: a vendor at work)."""
    session.execute("UPDATE apps SET spec = %s WHERE id = %s", (Jsonb(spec), app_id))


def all_newest(session: Session) -> list[dict[str, Any]]:
    """The newest version of every app, by name."""
    return session.execute(
        f"SELECT DISTINCT ON (name) {_COLUMNS} FROM apps ORDER BY name, created_at DESC, id DESC"
    ).fetchall()
