"""An admin API on a state database of its own: in this process, or served on a port. A pytest plugin.

def test_x(admin):            # admin.get("/v1/workspaces"), admin.post("/v1/customers", {...}), as scope admin
def test_y(served_admin):     # the same, served by uvicorn on loopback: .url, .token("read")
"""

import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from psycopg import sql

from innkeeper.adapters.keyfile import KeyFile
from innkeeper.admin.app import create_admin
from innkeeper.admin.services import AdminServices
from innkeeper.control import apps, clusters, customers, instances, tokens, workspaces
from innkeeper.model.domain import Domain
from innkeeper.model.workspace import Operation
from innkeeper.ports import ClusterInspector, DatabaseServers, Health, Runtimes, SecretBox
from innkeeper.store.session import Database
from innkeeper.store.signals import Signals
from support.waiting import eventually

APP = b"""
apiVersion: innkeeper.dev/v1
kind: App
name: notes
version: 1.0.0
image: localhost/notes:1.0.0
command: [notes]
port: 8080
health: {path: /healthz}
env: {DATABASE_URL: "{database_url}", PORT: "{port}"}
secrets:
  ADMIN_PASSWORD: {generate: true, show: owner}
  COOKIE_KEY: {generate: true}
database: {connections: 2}
"""


@dataclass
class Admin:
    """The API with one token of each scope; requests are made as `scope` unless a token is given."""

    database: Database
    services: AdminServices
    app: FastAPI
    client: TestClient
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, scope: str) -> str:
        if scope not in self.tokens:
            with self.database.transaction() as session:
                _, self.tokens[scope] = tokens.create(session, actor="test", name=scope, scopes=[scope])
        return self.tokens[scope]

    def headers(self, scope: str | None = "admin", **more: str) -> dict[str, str]:
        given = {name.replace("_", "-"): value for name, value in more.items()}
        return given if scope is None else {"Authorization": f"Bearer {self.token(scope)}"} | given

    def get(self, path: str, scope: str | None = "admin", **headers: str) -> Response:
        return self.client.get(path, headers=self.headers(scope, **headers))

    def post(self, path: str, body: Any = None, scope: str | None = "admin", **headers: str) -> Response:
        return self.client.post(path, json=body, headers=self.headers(scope, **headers))

    def delete(self, path: str, scope: str | None = "admin") -> Response:
        return self.client.delete(path, headers=self.headers(scope))

    # --- things to ask about -----------------------------------------------------------------------------------------

    def furnish(self) -> None:
        """An app, an instance and a customer."""
        with self.database.transaction() as session:
            apps.add(session, actor="test", spec=APP)
            instances.add(session, actor="test", name="pool", host="127.0.0.1", port=5432, admin_secret="env:NOBODY")
            clusters.add_local(session, actor="test")
            customers.create(
                session, actor="test", name="Acme", contact_name="Alice", contact_email="alice@acme.example"
            )

    def workspace(self, slug: str, customer: str = "Acme") -> Operation:
        with self.database.transaction() as session:
            return workspaces.create(
                session,
                actor="test",
                slug=slug,
                customer_id=customer,
                domain=self.services.domain,
                box=self.services.box,
            )

    def set(self, slug: str, **columns: Any) -> None:
        """Move a workspace's row as the control plane would."""
        sets = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in columns
        )
        query = sql.SQL("UPDATE workspaces SET {}, version = version + 1 WHERE slug = %(slug)s").format(sets)
        with self.database.transaction() as session:
            assert session.execute(query, columns | {"slug": slug}).rowcount == 1

    def audit(self, action: str) -> list[dict[str, Any]]:
        with self.database.transaction() as session:
            return session.execute("SELECT * FROM audit WHERE action = %s ORDER BY seq", (action,)).fetchall()


@dataclass
class Served:
    """The same, on a port."""

    admin: Admin
    url: str

    def token(self, scope: str = "admin") -> str:
        return self.admin.token(scope)


@contextmanager
def admin_on(
    database: Database,
    folder: Path,
    *,
    runtimes: Runtimes | None = None,
    servers: DatabaseServers | None = None,
    health: Health | None = None,
    inspector: ClusterInspector | None = None,
    box: SecretBox | None = None,
    local: bool = True,
) -> Generator[Admin]:
    signals = Signals(database, ["operation"])
    services = AdminServices(
        database=database,
        box=box or KeyFile.create(folder / "key"),
        domain=Domain("apps.localhost", "http", 8080),
        signals=signals,
        runtimes=runtimes,
        servers=servers,
        health=health,
        inspector=inspector,
        local=local,
    )
    app = create_admin(services)
    try:
        with TestClient(app, base_url="http://admin.localhost", raise_server_exceptions=False) as client:
            yield Admin(database, services, app, client)
    finally:
        signals.close()


@contextmanager
def serving(app: Any, *, ending: Any = None) -> Generator[str]:
    """Serve an ASGI application on a free port in a thread; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=3, server_header=False)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="uvicorn")
    thread.start()
    try:
        eventually(lambda: server.started, describe="uvicorn has started")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        if ending is not None:
            ending()
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def admin(state: Database, tmp_path: Path) -> Iterator[Admin]:
    with admin_on(state, tmp_path) as made:
        yield made


@pytest.fixture
def furnished(admin: Admin) -> Admin:
    """With an app, an instance and a customer."""
    admin.furnish()
    return admin


@pytest.fixture
def served_admin(furnished: Admin) -> Iterator[Served]:
    with serving(furnished.app, ending=furnished.app.state.streams.close) as url:
        yield Served(furnished, url)
