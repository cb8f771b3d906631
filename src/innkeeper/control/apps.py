"""Verbs on registered applications. Called by the admin API and by local mode for the app it serves."""

from typing import Any

from innkeeper.control import appspec
from innkeeper.model import ids
from innkeeper.model.app import App
from innkeeper.model.errors import NotFound
from innkeeper.store import apps as store
from innkeeper.store import audit
from innkeeper.store.session import Session


def add(session: Session, *, actor: str, spec: bytes, directory: str = "") -> dict[str, Any]:
    """Register one version of an app from the text of its spec; its row. ``InvalidInput`` lists every fault.

    ``directory``: what ``command`` is relative to, in local mode. ``Conflict`` when that version is registered.
    """
    return register(session, actor=actor, app=appspec.parse(spec, directory=directory))


def register(session: Session, *, actor: str, app: App) -> dict[str, Any]:
    """The same for a spec that was read already."""
    app_id = ids.prefixed("app")
    store.insert(session, app_id=app_id, name=app.name, version=app.version, spec=appspec.to_json(app))
    detail = {"name": app.name, "version": app.version}
    audit.append(session, actor=actor, action="app.add", target=app_id, detail=detail)
    return find(session, app_id)


def find(session: Session, id_or_name: str, version: str | None = None) -> dict[str, Any]:
    """By id, or the newest (or one) version of a name; ``NotFound`` otherwise."""
    if version is not None:
        found = store.by_version(session, id_or_name, version)
    else:
        found = store.by_id(session, id_or_name) or store.newest(session, id_or_name)
    if found is None:
        wanted = id_or_name if version is None else f"{id_or_name} {version}"
        raise NotFound(f"there is no app {wanted!r}: see inn app list")
    return found
