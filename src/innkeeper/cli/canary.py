"""``inn canary``: one workspace from asleep to answering to asleep again, through a gateway. What ``helm test`` runs.

It goes the way of an operator and of a customer: admin API and request both pass the gateway. Where no token is given
and the state database is (INN_STATE_DSN), it makes itself one and revokes it at the end.
"""

import ssl
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from innkeeper.cli.client import Client, Json, not_trusted, path
from innkeeper.cli.command import WAIT, Inn, command
from innkeeper.cli.discovery import Target
from innkeeper.cli.exits import FailedError, ProblemError, UnreachableError
from innkeeper.cli.follow import follow
from innkeeper.cli.output import say
from innkeeper.model.errors import InvalidInput, NotFound
from innkeeper.model.observed import HEALTHY

canary = typer.Typer(pretty_exceptions_enable=False, add_completion=False)

CUSTOMER = "Innkeeper canary"
_AT_REST = {"active", "deactivated"}
_HELD = 75.0
"""Seconds for one request: a gateway holds it for 60 at most."""


@command(canary, "canary")
def run(
    inn: Inn,
    slug: Annotated[str, typer.Option(help="The workspace; made if there is none.")] = "canary",
    app: Annotated[str | None, typer.Option(help="A registered app.", show_default="the only one")] = None,
    gateway: Annotated[
        str | None, typer.Option(help="HOST:PORT to connect to, whatever the addresses.", show_default="by address")
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="TLS ends in that gateway: speak it, to the addresses' hosts.")
    ] = False,
    ca: Annotated[
        Path | None, typer.Option(help="Certificates that it is verified by.", show_default="the system's")
    ] = None,
) -> None:
    """Wake one workspace by a request through the gateway, and leave it asleep (exit 1 when that fails)."""
    deadline = time.monotonic() + (inn.timeout or WAIT)
    via, context = _address(gateway), _context(tls=tls, ca=ca, gateway=gateway)
    with _target(inn) as target:
        client = Client(replace(target, via=via, tls=context), deadline=deadline)
        _be_there(client, slug, app)
        shown = _rest(client, slug, deadline)
        if shown["state"] == "active":
            _sleep(client, slug)
        started = time.monotonic()
        status = _request(shown["url"], "/", via, context, deadline)
        say(f"canary {slug}: its request was answered with {status} after {time.monotonic() - started:.2f} s")
        shown = client.get(path("workspaces", slug))
        if shown["state"] != "active":
            raise FailedError(f"canary {slug} is {shown['state']} after its request: see inn workspace why {slug}")
        health = client.get(path("apps", shown["app"]), version=shown["app_version"])["spec"]["health"]["path"]
        _see_healthy(shown["url"], health, via, context, deadline)
        _sleep(client, slug)
        shown = client.get(path("workspaces", slug))
    inn.done(f"canary {slug} was woken by a request and is {shown['state']}", shown)


@contextmanager
def _target(inn: Inn) -> Generator[Target]:
    """The installation; with a token of our own where the state database is at hand and no token was given."""
    from innkeeper.bootstrap.canary_token import state_is_known, token_for_now

    if inn.has_token or not state_is_known():
        yield inn.client.target
        return
    with token_for_now("inn canary") as (url, token):
        yield Target(inn.given_url or url, token)


def _address(gateway: str | None) -> tuple[str, int] | None:
    if gateway is None:
        return None
    host, _, port = gateway.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
        raise InvalidInput("--gateway is HOST:PORT", field="gateway")
    return host, int(port)


def _context(*, tls: bool, ca: Path | None, gateway: str | None) -> ssl.SSLContext | None:
    """How TLS is spoken to the gateway; None: it is not."""
    if not tls:
        if ca is not None:
            raise InvalidInput("--ca is for --tls", field="ca")
        return None
    if gateway is None:
        raise InvalidInput("--tls says how --gateway is spoken to: name it", field="tls")
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise InvalidInput(f"--ca {ca} cannot be read: {error.strerror or error}", field="ca") from None


def _be_there(client: Client, slug: str, app: str | None) -> None:
    """Customer and workspace exist."""
    try:
        client.get(path("workspaces", slug))
    except ProblemError as error:
        if error.kind != NotFound.slug:
            raise
    else:
        return
    if not any(row["name"] == CUSTOMER for row in client.items("/v1/customers")):
        contact = {"contact_name": "Operations", "contact_email": "operator@localhost.localdomain"}
        client.post("/v1/customers", {"name": CUSTOMER, "plan": "free", **contact})
    made: Json = client.post("/v1/workspaces", {"slug": slug, "customer": CUSTOMER, "app": app}).body
    follow(client, made["id"], title=f"create {slug}")


def _rest(client: Client, slug: str, deadline: float) -> Json:
    """The workspace, once it is in a state in which it stays."""
    while True:
        shown = client.get(path("workspaces", slug))
        if shown["state"] in _AT_REST:
            return shown
        if shown["state"] in {"purging", "purged"}:
            raise FailedError(f"canary {slug} was purged: name another with --slug")
        if time.monotonic() > deadline:
            raise FailedError(f"canary {slug} stays {shown['state']}: see inn workspace why {slug}")
        time.sleep(0.5)


def _sleep(client: Client, slug: str) -> None:
    asked: Json = client.post(path("workspaces", slug, "deactivate"), {"reason": "canary"}).body
    follow(client, asked["id"], title=f"deactivate {slug}")


def _see_healthy(
    url: str, health: str, via: tuple[str, int] | None, context: ssl.SSLContext | None, deadline: float
) -> None:
    """It is the application that answers there: what a gateway says itself looks like a refusal of an application's."""
    status = _request(url, health, via, context, deadline)
    if status not in HEALTHY:
        raise FailedError(f"{url}{health} was answered with {status}: its application is not reached, or is not well")


def _request(url: str, path: str, via: tuple[str, int] | None, context: ssl.SSLContext | None, deadline: float) -> int:
    """Status of one GET; 503 is asked again as its Retry-After says, as a client would."""
    parts = urlsplit(url)
    if via is None and parts.scheme == "https":
        raise InvalidInput("over https, name the gateway itself: --gateway HOST:PORT", field="gateway")
    host, port = via or (parts.hostname or "", parts.port or 80)
    if host.endswith(".localhost"):
        host = "127.0.0.1"
    while True:
        connection = HTTPConnection(host, port, timeout=_HELD)
        try:
            connection.connect()
            if context is not None:
                connection.sock = context.wrap_socket(connection.sock, server_hostname=parts.hostname)
            connection.request("GET", path, headers={"Host": parts.netloc, "User-Agent": "innkeeper-canary"})
            response = connection.getresponse()
            response.read()
        except ssl.SSLCertVerificationError as error:
            raise not_trusted(url, error) from None
        except (OSError, HTTPException) as error:
            raise UnreachableError(f"the gateway {host}:{port} does not answer: {error}") from None
        finally:
            connection.close()
        if context is None and _is_sent_to_tls(response, parts.hostname):
            raise FailedError(f"the gateway {host}:{port} sends {url} to https: name its port of TLS, with --tls")
        if response.status < 500:  # noqa: PLR2004 - what the application thinks of us; whether it is it, its health tells
            return response.status
        if response.status != 503 or time.monotonic() > deadline:  # noqa: PLR2004
            raise FailedError(f"{url} was answered with {response.status}")
        time.sleep(_pause(response))


def _pause(response: HTTPResponse) -> float:
    """Seconds until it is asked again, five at most; an application may name a date instead, as HTTP lets it."""
    said = response.headers.get("Retry-After", "")
    return min(5.0, float(said)) if said.isascii() and said.isdigit() else 2.0


def _is_sent_to_tls(response: HTTPResponse, host: str | None) -> bool:
    """Whether a gateway in which TLS ends answered instead of the application."""
    to = urlsplit(response.headers.get("Location", ""))
    return response.status == 308 and (to.scheme, to.hostname) == ("https", host)  # noqa: PLR2004
