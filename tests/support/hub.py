"""A hub on a real state database with the small signing issuer, and browsers without windows that sign in to it.

A pytest plugin: `hub` is the whole, `hub.browser()` one more browser with cookies of its own.
"""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response

from innkeeper.adapters.keyfile import KeyFile
from innkeeper.adapters.oidc import OidcProvider, OidcSettings
from innkeeper.control import apps, clusters, instances
from innkeeper.control import workspaces as verbs
from innkeeper.hub.app import create_hub
from innkeeper.hub.feed import CHANNEL
from innkeeper.hub.services import HubServices, HubSettings
from innkeeper.model.domain import Domain
from innkeeper.model.errors import TemporaryError
from innkeeper.model.workspace import State, Workspace
from innkeeper.store import operations, workspaces
from innkeeper.store.session import Database
from innkeeper.store.signals import Signals
from support.issuer import CLIENT_ID, CLIENT_SECRET, Issuer, running_issuer

ORIGIN = "https://hub.test"


def create_beyond_the_plan(services: HubServices) -> None:
    """Three more workspaces of the only customer, by an operator, whom no plan limits."""
    with services.database.transaction() as session:
        (customer,) = session.execute("SELECT id FROM customers").fetchall()
        for number in (2, 3, 4):
            verbs.create(
                session,
                actor="token:operator",
                slug=f"acme-{number}",
                customer_id=customer["id"],
                domain=services.domain,
                box=services.box,
            )


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


def furnish(database: Database) -> None:
    """An app and an instance, so that workspaces can be created."""
    with database.transaction() as session:
        apps.add(session, actor="test", spec=APP)
        instances.add(session, actor="test", name="pool", host="127.0.0.1", port=5432, admin_secret="env:NOBODY")
        clusters.add_local(session, actor="test")


def away(_: Database) -> Any:
    """Stands in for Database.transaction when the server does not answer; the real one takes 10 s to give up."""
    raise TemporaryError("the state database does not answer: see inn doctor", delay=1.0)


def advance(
    database: Database, slug: str, *, step: str = "", message: str = "", state: State | None = None, **columns: Any
) -> Workspace:
    """What the control plane would do to a workspace: a step of its operation, or the end of it."""
    with database.transaction() as session:
        workspace = workspaces.by_slug(session, slug, lock=True)
        assert workspace is not None
        if step:
            operations.event(session, workspace.operation_id, step=step, message=message)
        if state is not None or columns:
            moved = {"state": state.value} if state is not None else {}
            changed = workspaces.change(session, workspace, **moved, **columns)
            assert changed is not None
            workspace = changed
        if state in {State.ACTIVE, State.DEACTIVATED, State.PURGED}:
            operations.finish(session, workspace.operation_id)
    return workspace


@dataclass
class Browser:
    """Follows no redirect by itself, so that a test sees each."""

    client: TestClient
    issuer: Issuer
    csrf: str = ""
    sent: list[str] = field(default_factory=list)

    def get(self, path: str, **kwargs: Any) -> Response:
        answer = self.client.get(path, **kwargs)
        found = re.search(r'name="csrf" value="([^"]+)"', answer.text)
        if found:
            self.csrf = found[1]
        return answer

    def post(
        self, path: str, data: dict[str, str] | None = None, *, origin: str | None = ORIGIN, csrf: str | None = None
    ) -> Response:
        headers = {} if origin is None else {"Origin": origin}
        form = {"csrf": self.csrf if csrf is None else csrf, **(data or {})}
        return self.client.post(path, data=form, headers=headers)

    def begin(self, return_to: str = "/") -> dict[str, str]:
        """Press the sign-in button; what the issuer was sent."""
        answer = self.client.post("/auth/sign-in", data={"return_to": return_to}, headers={"Origin": ORIGIN})
        assert answer.status_code == 303, answer.text
        return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}

    def answer_of_issuer(self, query: dict[str, str], who: str = "alice") -> str:
        """The person signs in there; the path to come back to."""
        self.issuer.signed_in = who
        back = urlsplit(self.issuer.authorize(query))
        return f"{back.path}?{back.query}"

    def sign_in(self, who: str = "alice", return_to: str = "/") -> Response:
        answer = self.client.get(self.answer_of_issuer(self.begin(return_to), who))
        self.get("/welcome")
        return answer

    def sign_up(self, name: str, slug: str, who: str = "alice") -> Response:
        self.sign_in(who)
        answer = self.post("/welcome", {"name": name, "slug": slug})
        self.get("/")
        return answer

    def cookie(self, name: str) -> str | None:
        return self.client.cookies.get(name)


@dataclass
class Hub:
    app: FastAPI
    services: HubServices
    issuer: Issuer

    @property
    def database(self) -> Database:
        return self.services.database

    def browser(self) -> Browser:
        client = TestClient(self.app, base_url=ORIGIN, follow_redirects=False, raise_server_exceptions=False)
        return Browser(client, self.issuer)

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        with self.database.transaction() as session:
            return session.execute(query.encode(), values).fetchall()

    def audit(self, action: str) -> list[dict[str, Any]]:
        return self.rows("SELECT actor, action, target, detail FROM audit WHERE action = %s ORDER BY seq", action)


@contextmanager
def running_hub(database: Database, folder: Path, issuer: Issuer) -> Generator[Hub]:
    settings = HubSettings(public_url=ORIGIN, issuer=issuer.url)
    issuer.redirect_uris.add(settings.callback)
    provider = OidcProvider(OidcSettings(issuer.url, CLIENT_ID, CLIENT_SECRET))
    # Its own would be closed by the lifespan, which a test client does not run.
    signals = Signals(database, (CHANNEL,))
    services = HubServices(
        database=database,
        identity=provider,
        box=KeyFile.create(folder / "keys"),
        domain=Domain("apps.test"),
        settings=settings,
        signals=signals,
    )
    furnish(database)
    try:
        yield Hub(create_hub(services), services, issuer)
    finally:
        signals.close()
        provider.close()


@pytest.fixture
def hub(state: Database, tmp_path: Path) -> Iterator[Hub]:
    with running_issuer() as issuer, running_hub(state, tmp_path, issuer) as running:
        yield running
