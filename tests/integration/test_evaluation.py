"""``inn serve postgres`` and ``inn serve issuer``: what an evaluation in a cluster has instead of production's own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest

from innkeeper.adapters.oidc import OidcProvider, OidcSettings
from innkeeper.ports import Identity
from support.ports import free_port
from support.waiting import PATIENCE, eventually

INN = str(Path(sys.executable).with_name("inn"))

Serve = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    started: list[subprocess.Popen[str]] = []

    def start(what: str, **settings: object) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INN_")}
        told = {f"INN_{name.upper()}": str(value) for name, value in settings.items()}
        with (tmp_path / f"said-{len(started)}").open("w") as said:
            process = subprocess.Popen(
                [INN, "serve", what], env=kept | told, stdout=said, stderr=subprocess.STDOUT, text=True
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def ended(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=PATIENCE)


def answer(port: int, password: str) -> str:
    with psycopg.connect(host="127.0.0.1", port=port, user="postgres", password=password) as connection:
        row = connection.execute("SHOW listen_addresses").fetchone()
        assert row is not None
        return str(row[0])


def test_postgres_serves_with_the_password_it_was_given_and_ends_cleanly(serve: Serve, tmp_path: Path) -> None:
    port, directory = free_port(), tmp_path / "volume" / "postgres"
    server = serve("postgres", postgres_directory=directory, postgres_port=port, postgres_password="the first")
    assert eventually(lambda: answer(port, "the first"), retry_on=psycopg.OperationalError) == "0.0.0.0"
    assert ended(server) == 0
    assert "database system is shut down" in (tmp_path / "said-0").read_text()
    assert "the first" not in (tmp_path / "said-0").read_text()


def test_a_volume_that_outlived_its_secret_takes_the_new_password(serve: Serve, tmp_path: Path) -> None:
    port, directory = free_port(), tmp_path / "postgres"
    server = serve("postgres", postgres_directory=directory, postgres_port=port, postgres_password="the first")
    eventually(lambda: answer(port, "the first"), retry_on=psycopg.OperationalError)
    assert ended(server) == 0

    (directory / "data").chmod(0o770)  # as Kubernetes leaves it when it gives a volume to a group
    server = serve("postgres", postgres_directory=directory, postgres_port=port, postgres_password="the second")
    eventually(lambda: answer(port, "the second"), retry_on=psycopg.OperationalError)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        answer(port, "the first")
    assert ended(server) == 0

    # Killed between the server's change and the file's: the server knows the third, the file says the second.
    server = serve("postgres", postgres_directory=directory, postgres_port=port, postgres_password="the third")
    eventually(lambda: answer(port, "the third"), retry_on=psycopg.OperationalError)
    assert ended(server) == 0
    (directory / "password").write_text("the second")
    server = serve("postgres", postgres_directory=directory, postgres_port=port, postgres_password="the third")
    eventually(lambda: (directory / "password").read_text() == "the third")
    assert ended(server) == 0

    (directory / "password").write_text("never was")
    server = serve("postgres", postgres_directory=directory, postgres_port=port, postgres_password="nor this")
    assert server.wait(timeout=PATIENCE) != 0
    assert "give the one it was last started with" in (tmp_path / "said-4").read_text()


def test_a_server_that_dies_ends_its_container(serve: Serve, tmp_path: Path) -> None:
    port, directory = free_port(), tmp_path / "postgres"
    server = serve("postgres", postgres_directory=directory, postgres_port=port, postgres_password="x" * 20)
    eventually(lambda: answer(port, "x" * 20), retry_on=psycopg.OperationalError)
    os.kill(int((directory / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    assert server.wait(timeout=PATIENCE) == 1


def test_an_issuer_behind_a_gateway_signs_people_in_under_its_public_name(serve: Serve, tmp_path: Path) -> None:
    port, hub, secret = free_port(), "http://hub.apps.localhost:8080", "a secret of the chart"
    public, inside = "http://sign-in.apps.localhost:8080", f"http://127.0.0.1:{port}"
    process = serve(
        "issuer",
        issuer_directory=tmp_path / "issuer",
        listen_port=port,
        oidc_issuer=public,
        oidc_client_secret=secret,
        hub_url=hub,
    )
    redirect = f"{hub}/auth/callback"
    provider = OidcProvider(OidcSettings(public, "innkeeper", secret, back_channel=inside))
    with httpx2.Client(trust_env=False) as browser:
        eventually(lambda: browser.get(f"{inside}/health").is_success, retry_on=httpx2.TransportError)
        request = provider.begin(redirect_uri=redirect)
        assert request.url.startswith(f"{public}/")
        there = request.url.replace(public, inside, 1)  # the gateway's part
        page = browser.get(there, headers={"Host": "sign-in.apps.localhost:8080"})
        form = {"username": "alice", "password": "alice"}
        transaction = re.search(r'name="transaction_id" value="([^"]+)"', page.text)
        if transaction:
            form["transaction_id"] = transaction[1]
        sent = browser.post(there, data=form, headers={"Host": "sign-in.apps.localhost:8080"})
    back = httpx2.URL(sent.headers["location"])
    assert str(back).startswith(redirect)
    found = provider.complete(
        code=back.params["code"], redirect_uri=redirect, nonce=request.nonce, verifier=request.verifier
    )
    provider.close()
    assert found == Identity(public, "alice", "alice@acme.example", "Alice Archer")
    assert ended(process) == 0
