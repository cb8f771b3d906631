"""No secret reaches a log, whichever way it is carried."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from innkeeper.logs.redaction import HIDDEN, Secret, clean
from innkeeper.logs.setup import configure

CANARY = "canary-9f2c71d0"


@pytest.fixture(params=["json", "console"])
def log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the process writes. The root logger is as it was afterwards."""
    written = io.StringIO()
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    monkeypatch.setattr(sys, "stderr", written)
    configure(form=request.param)
    yield written
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret(CANARY)
    assert CANARY not in f"{secret} {secret!r} {[secret]} {dict(a=secret)}" + "%s" % secret  # noqa: UP031, C408
    assert secret.reveal() == CANARY, "the control"
    assert secret == Secret(CANARY)
    assert secret != Secret("another one")


def test_a_secret_is_hidden_by_its_value_wherever_it_is(log: io.StringIO) -> None:
    Secret(CANARY)
    told = f"a canary: {CANARY}"
    structlog.get_logger().info(told, where=f"in {CANARY} text", deep={"list": [CANARY, {"more": (CANARY,)}]})
    logging.getLogger("vendor").warning("connecting with %s", CANARY)
    assert CANARY not in log.getvalue()
    assert log.getvalue().count(HIDDEN) >= 5


@pytest.mark.parametrize("key", ["password", "client_secret", "Authorization", "api_key", "set-cookie", "token"])
def test_a_value_is_hidden_by_its_name(log: io.StringIO, key: str) -> None:
    structlog.get_logger().info("event", **{key: "never-a-secret-object", "slug": "shown"})
    assert "never-a-secret-object" not in log.getvalue()
    assert "shown" in log.getvalue(), "the control"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://inn:hunter2hunter2@127.0.0.1:5432/x",
        "Authorization: Bearer hunter2hunter2",
        "host=x password=hunter2hunter2 user=y",
        "ALTER ROLE x PASSWORD 'SCRAM-SHA-256$4096:hunter2hunter2$a:b'",
    ],
)
def test_a_value_is_hidden_by_its_form(log: io.StringIO, text: str) -> None:
    structlog.get_logger().info("event", detail=text)
    logging.getLogger("vendor").warning(text)
    assert "hunter2hunter2" not in log.getvalue()
    assert "hunter2hunter2" not in clean(text)


def test_a_traceback_shows_no_secret(log: io.StringIO) -> None:
    Secret(CANARY)
    try:
        raise ValueError(f"cannot connect with {CANARY}")
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("vendor").exception("failed too")
    assert "ValueError" in log.getvalue(), "the control"
    assert CANARY not in log.getvalue()


def test_production_writes_one_json_object_a_line(log: io.StringIO, request: pytest.FixtureRequest) -> None:
    structlog.get_logger().info("workspace.active", workspace="w1", lines="a\nb")
    (line,) = log.getvalue().splitlines()
    if request.node.callspec.params["log"] == "json":
        told = json.loads(line)
        assert (told["event"], told["workspace"], told["level"]) == ("workspace.active", "w1", "info")
    else:
        assert "info     workspace.active " in line
