"""A real application that knows nothing of us: Miniflux from sign-in with the secret that the hub shows, over sleep.

Issue line 5. Needs Go once, to build it (`make -C examples/miniflux`).
"""

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from support.dev_stack import Stack, running

pytest_plugins = ["support.dev_stack"]
pytestmark = [pytest.mark.xdist_group("e2e-miniflux"), pytest.mark.timeout(600)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "miniflux"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if not (EXAMPLE / "miniflux").exists() and shutil.which("go") is None:
        pytest.skip("no Go, so Miniflux is not built: apt-get install golang, or see https://go.dev/doc/install")
    subprocess.run(["make", "-C", EXAMPLE], check=True)
    with running(tmp_path_factory.mktemp("dev") / "data", "--app", str(EXAMPLE / "app.yaml")) as made:
        yield made


class Reader:
    """Somebody with Miniflux's own API, who signs in with user name and password."""

    def __init__(self, stack: Stack, slug: str, password: str) -> None:
        self._stack, self._slug = stack, slug
        self._credentials = base64.b64encode(f"admin:{password}".encode()).decode()

    def call(self, method: str, path: str, body: bytes | None = None, *, status: int = 200) -> Any:
        headers = {"Authorization": f"Basic {self._credentials}", "Content-Type": "application/json"}
        reply = self._stack.ask(self._slug, f"/v1{path}", method=method, body=body, headers=headers)
        assert reply.status == status, reply.text
        return reply.json


def test_it_keeps_everything_over_sleep(stack: Stack):
    stack.customer()
    stack.inn("workspace", "create", "news", "--customer", "Acme", "--wait")
    secret = stack.inn("workspace", "secret", "news", "ADMIN_PASSWORD").out.strip()
    reader = Reader(stack, "news", secret)
    assert reader.call("GET", "/me")["username"] == "admin"
    Reader(stack, "news", "wrong").call("GET", "/me", status=401)  # the control
    made = reader.call("POST", "/categories", b'{"title": "Inns"}', status=201)
    reader.call("POST", "/users", b'{"username": "guest", "password": "correct-horse"}', status=201)

    stack.advance("49h")
    asleep = stack.workspace("news")
    assert (asleep["state"], stack.awake_processes("news")) == ("deactivated", [])

    # The next request wakes it; what was written is there, and so is the secret.
    found = reader.call("GET", "/categories")
    assert made["id"] in [category["id"] for category in found]
    assert "guest" in [user["username"] for user in reader.call("GET", "/users")]
    assert stack.workspace("news")["generation"] == 2
    assert stack.inn("workspace", "secret", "news", "ADMIN_PASSWORD").out.strip() == secret
    stack.nothing_is_wrong()


def test_a_person_signs_in_on_its_own_page(stack: Stack):
    """With the form, so that cookies and redirects of a foreign application pass the gateway."""
    stack.create("papers")
    secret = stack.inn("workspace", "secret", "papers", "ADMIN_PASSWORD").out.strip()
    page = stack.browse("papers", "/")
    token = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert token is not None, page.text
    cookie = page.headers["set-cookie"].partition(";")[0]
    form = urlencode({"csrf": token[1], "username": "admin", "password": secret}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
    answer = stack.ask("papers", "/login", method="POST", body=form, headers=headers)
    assert answer.status == 302, answer.text
    cookie = answer.headers.get("set-cookie", cookie).partition(";")[0]
    inside = stack.ask("papers", "/unread", headers={"Cookie": cookie})
    assert inside.status == 200
    assert "Logout" in inside.text


def test_it_does_nothing_wrong(stack: Stack):
    ran = stack.inn("app", "check", str(EXAMPLE / "app.yaml"))
    assert ran.out.endswith("app.yaml: nothing to mend\n")
