"""The few questions for the cluster's own API server, with the standard library. Called by components.py and check.py.

This runs before there is a .venv to trust, so it does not use the `kubernetes` package; the product and its tests do.
"""

import http.client
import json
import ssl
from typing import Any

from paths import API_PORT, NODE, PKI

PATIENCE = 5.0
"""Seconds for one answer."""

OK, CREATED, ACCEPTED, NOT_FOUND = 200, 201, 202, 404


class Refused(Exception):
    """The API server answered, and not with what was asked for."""


def call(method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Status and answer (JSON, or text where it is none). Raises OSError while nobody listens."""
    connection = http.client.HTTPSConnection("127.0.0.1", API_PORT, timeout=PATIENCE, context=_context())
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        try:
            return response.status, json.loads(content)
        except ValueError:
            return response.status, content.decode(errors="replace")
    except http.client.HTTPException as error:
        raise ConnectionError(f"the API server broke off: {error!r}") from error
    finally:
        connection.close()


def get(path: str) -> Any:
    status, answer = call("GET", path)
    if status != OK:
        raise Refused(f"GET {path}: {status} {answer}")
    return answer


def create(path: str, body: object) -> None:
    status, answer = call("POST", path, body)
    if status not in {OK, CREATED, ACCEPTED}:
        raise Refused(f"POST {path}: {status} {answer}")


def delete(path: str) -> None:
    status, answer = call("DELETE", path)
    if status not in {OK, ACCEPTED, NOT_FOUND}:
        raise Refused(f"DELETE {path}: {status} {answer}")


def answers() -> bool:
    """Whether the API server says it is ready."""
    return holds("/readyz")


def node_exists() -> bool:
    return holds(f"/api/v1/nodes/{NODE}")


def node_is_ready() -> bool:
    try:
        node = get(f"/api/v1/nodes/{NODE}")
    except (OSError, Refused):
        return False
    return any(seen["type"] == "Ready" and seen["status"] == "True" for seen in node["status"].get("conditions", ()))


def holds(path: str) -> bool:
    """Whether this can be read now."""
    try:
        get(path)
    except (OSError, Refused):
        return False
    return True


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(PKI / "ca.crt"))
    context.load_cert_chain(PKI / "admin.crt", PKI / "admin.key")
    return context
