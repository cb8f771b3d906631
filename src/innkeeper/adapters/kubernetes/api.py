"""Speaks to one API server in plain JSON, through the official client's connection. Vendor errors end here.

Called by every other module of this package. An API server's own 404 is an answer (None), not an error; that of
whatever else answers there, a proxy that has lost its way to it, says nothing of what is in the cluster. The rest
becomes ``TemporaryError`` (too many requests, server errors, time-outs, conflicts, and refused credentials: a person
mends those for the whole cluster, no workspace should fall asleep over them) or ``PermanentError`` (what was asked is
not valid), in words that name the cluster.
"""

import json
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast
from urllib.parse import urlencode

import urllib3
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException

from innkeeper.adapters.kubernetes import access as accesses
from innkeeper.adapters.kubernetes.names import FIELD_MANAGER, Manifest, collection, part, path
from innkeeper.model.errors import PermanentError, TemporaryError

CONNECT, READ = 5.0, 20.0
"""Seconds until a connection stands, and between two pieces of an answer."""

_JSON, _APPLY = "application/json", "application/apply-patch+yaml"

_OK = range(200, 300)
_NOT_FOUND = 404

_LONGEST_ERROR = 64 * 1024

_PAGE = 100
"""Objects in one answer: while it is read, one takes ten times the memory of what is kept of it."""

_LOOK_AGAIN = 10.0
"""Seconds between two looks whether credentials that are refused were renewed meanwhile."""

_CONFLICTS = 5
"""Further tries of an apply that met another."""


class ConflictError(TemporaryError):
    """409: it exists already, or it is not the version (or the UID) that was meant."""


class GoneError(TemporaryError):
    """410: a watch or a list went on from where the server does not remember any more."""


class SilentError(TemporaryError):
    """What had begun to be read piece by piece did not go on in time."""


class NotThereError(TemporaryError):
    """404, where something was to be read piece by piece."""


class InvalidError(PermanentError):
    """400, 422 and the like of an API server: what was asked makes no sense to it (now)."""


class ForbiddenError(TemporaryError):
    """403. ``terminating``: because the namespace is being deleted."""

    def __init__(self, message: str, *, reason: str, terminating: bool) -> None:
        super().__init__(message, reason=reason)
        self.terminating = terminating


class Api:
    """One API server. Threads may share it."""

    def __init__(self, access: str, *, cluster: str) -> None:
        self._access = access
        self._cluster = cluster
        self._client = accesses.connect(access)
        self._renewing = threading.Lock()
        self._looked_at = -_LOOK_AGAIN
        self._dated: tuple[str, float] | None = None

    @property
    def host(self) -> str:
        """Where it is, as the access says: ``https://…``."""
        return _host(self._client)

    def now(self) -> datetime:
        """What time it is there, by its last answer: what is old there is so by its clock, not by that of a worker."""
        if self._dated is not None:
            date, heard_at = self._dated
            with suppress(ValueError):
                return parsedate_to_datetime(date) + timedelta(seconds=time.monotonic() - heard_at)
        return datetime.now(UTC)

    def get(self, where: str, **query: str | int) -> Manifest | None:
        """One object as it is now (never from a server's cache), or None."""
        return self._call("GET", where, query)

    def list(self, where: str, **query: str | int) -> Manifest:
        """A collection, as it is now unless ``resourceVersion`` says otherwise; ``items`` is always there."""
        found = self._call("GET", where, query)
        if found is None:
            return {"metadata": {}, "items": []}  # its namespace is not there
        if not {"items", "metadata"} <= found.keys():
            raise self._stranger(200, json.dumps(found).encode())
        return {**found, "items": found["items"] or []}

    def pages(self, where: str, **query: str | int) -> Iterator[Manifest]:
        """The same a hundred at a time: all of it at once would be most of what a process holds.

        The server forgets what a page continues after some minutes: act upon what was found when all were read.
        """
        following: dict[str, str | int] = {}
        while True:
            page = self.list(where, limit=_PAGE, **query, **following)
            yield page
            token = page["metadata"].get("continue")
            if not token:
                return
            following = {"continue": token}

    def create(self, manifest: Manifest, *, collection: str, **query: str | int) -> Manifest:
        """``ConflictError`` when it exists."""
        return self._needed("POST", collection, query | {"fieldManager": FIELD_MANAGER}, manifest)

    def replace(self, manifest: Manifest) -> Manifest | None:
        """Only the version that was read: ``ConflictError`` when it changed since, None when it is gone."""
        return self._call("PUT", path(manifest), {"fieldManager": FIELD_MANAGER}, manifest)

    def apply(self, manifest: Manifest, **query: str | int) -> Manifest:
        """Server-side apply: what we own in it becomes this, whoever changed it."""
        query = query | {"fieldManager": FIELD_MANAGER, "force": "true"}
        for _ in range(_CONFLICTS):
            try:
                return self._needed("PATCH", path(manifest), query, manifest, _APPLY)
            except ConflictError:
                continue  # others write it at this moment, mostly the same
        return self._needed("PATCH", path(manifest), query, manifest, _APPLY)

    def ensure(self, manifest: Manifest) -> Manifest:
        """Create what is most likely new: that costs the server less than an apply, which follows if it is not."""
        try:
            return self.create(manifest, collection=collection(manifest["kind"], manifest["metadata"]["namespace"]))
        except ConflictError:
            return self.apply(manifest)

    def delete(
        self,
        where: str,
        *,
        uid: str | None = None,
        grace: int | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] | None = None,
    ) -> bool:
        """Ask for its end; False if it is not there, ``ConflictError`` if another has its name."""
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if propagation is not None:
            options["propagationPolicy"] = propagation
        return self._call("DELETE", where, {}, options) is not None

    @contextmanager
    def stream(self, where: str, *, silence: float | None, **query: str | int) -> Generator[urllib3.BaseHTTPResponse]:
        """An answer that goes on: a watch, a log. ``silence`` in seconds between two pieces is an error (None: never).

        ``SilentError`` when that is so once it has begun, ``NotThereError`` when there is no such thing; errors while
        it is read inside are translated, too.
        """
        with self.translated():
            answer = self._send("GET", where, query, None, _JSON, timeout=(CONNECT, silence))
            try:
                if answer.status not in _OK:
                    raise self._error(answer.status, answer.headers, answer.read(_LONGEST_ERROR), "GET", where)
                yield answer
            except urllib3.exceptions.ReadTimeoutError as error:
                message = (
                    f"cluster {self._cluster}: nothing more came from its API server at {self.host} in {silence} s"
                )
                raise SilentError(message, reason="cluster-unreachable") from error
            finally:
                answer.close()

    @contextmanager
    def translated(self) -> Generator[None]:
        """Vendor errors of what is done inside become ours."""
        try:
            yield
        except ApiException as error:
            # Only raised for TLS: everything else is an answer.
            raise TemporaryError(
                f"cluster {self._cluster}: no trusted connection to its API server: {_line(error)}",
                reason="cluster-unreachable",
            ) from error
        except urllib3.exceptions.SSLError as error:
            raise TemporaryError(
                f"cluster {self._cluster}: no trusted connection to its API server: {_line(error)}",
                reason="cluster-unreachable",
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TemporaryError(
                f"cluster {self._cluster}: its API server at {self.host} does not answer ({_line(error)})",
                reason="cluster-unreachable",
            ) from error

    def close(self) -> None:
        """Connections that are in use are closed when they come back."""
        self._client.close()

    def _look_again(self) -> str:
        """Read where credentials are anew, so that the next try goes by what they are now; what stands against that."""
        with self._renewing:
            if time.monotonic() - self._looked_at < _LOOK_AGAIN:
                return ""
            self._looked_at = time.monotonic()
            try:
                renewed = accesses.connect(self._access)
            except (PermanentError, TemporaryError) as error:  # as while somebody writes the file
                return f"; {error}"
            before, self._client = self._client, renewed
        before.close()
        return ""

    # --- one call ----------------------------------------------------------------------------------------------------

    def _needed(
        self, method: str, where: str, query: Mapping[str, str | int], body: Manifest, content: str = _JSON
    ) -> Manifest:
        found = self._call(method, where, query, body, content)
        if found is None:
            raise TemporaryError(
                f"cluster {self._cluster}: {where} is not there: its namespace is gone", reason="namespace-gone"
            )
        return found

    def _call(
        self,
        method: str,
        where: str,
        query: Mapping[str, str | int],
        body: Manifest | None = None,
        content: str = _JSON,
    ) -> Manifest | None:
        with self.translated():
            answer = self._send(method, where, query, body, content, timeout=(CONNECT, READ))
            data = answer.data
        told = _object(data)
        if answer.status == _NOT_FOUND:
            if not _says_absent(told, where):
                raise self._stranger(answer.status, data)
            return None
        if answer.status not in _OK:
            raise self._error(answer.status, answer.headers, data, method, where)
        if told is None:
            raise self._stranger(answer.status, data)
        return told

    def _send(
        self,
        method: str,
        where: str,
        query: Mapping[str, str | int],
        body: Manifest | None,
        content: str,
        *,
        timeout: tuple[float, float | None],
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json", "Content-Type": content, "User-Agent": "innkeeper"}
        client = self._client  # one all through: renewed ones may take its place meanwhile, of another server even
        client.update_params_for_auth(headers, [], ["BearerToken"], where, method, body)
        url = f"{_host(client)}{where}" + (f"?{urlencode(query)}" if query else "")
        # As text: the client turns only some content types into JSON itself.
        payload = None if body is None else json.dumps(body, separators=(",", ":"))
        answer = client.rest_client.pool_manager.request(
            method,
            url,
            body=payload,
            headers=headers,
            preload_content=False,
            timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
        )
        if date := answer.headers.get("Date"):
            self._dated = date, time.monotonic()
        return answer

    def _stranger(self, status: int, data: bytes) -> TemporaryError:
        said = _line(data.decode("utf-8", "replace"), 100)
        message = f"cluster {self._cluster}: what answers at {self.host} is no API server (HTTP {status}: {said})"
        return TemporaryError(message, reason="cluster-unreachable")

    def _error(self, status: int, headers: Mapping[str, str], data: bytes, method: str, where: str) -> Exception:
        told = _object(data) or {}
        message = _line(told.get("message") or data.decode("utf-8", "replace") or "no reason given")
        said = f"cluster {self._cluster}: {message}"
        match status:
            case 404:
                return NotThereError(said, reason="not-there")
            case 409:
                return ConflictError(said, reason="conflict")
            case 410:
                return GoneError(said, reason="expired")
            case 401:
                return TemporaryError(
                    f"cluster {self._cluster}: its API server does not accept the credentials of {self._access} "
                    f"(expired or withdrawn?): renew them{self._look_again()}",
                    reason="cluster-credentials",
                )
            case 403:
                terminating = "being terminated" in message
                return ForbiddenError(said, reason="cluster-forbidden", terminating=terminating)
            case 429:
                return TemporaryError(said, delay=_retry_after(headers), reason="cluster-busy")
            case 408 | 500 | 502 | 503 | 504:
                text = f"{said} (HTTP {status}, {method} {where})"
                return TemporaryError(text, delay=_retry_after(headers), reason="cluster-error")
            case _ if told.get("kind") != "Status":
                return self._stranger(status, data)
            case _:
                return InvalidError(f"{said} (HTTP {status}, {method} {where})", reason="cluster-refused")


def _host(client: ApiClient) -> str:
    return cast("str | None", client.configuration.host) or ""


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(data)
    except ValueError:
        return None
    return cast("dict[str, Any]", told) if isinstance(told, dict) else None


def _says_absent(told: dict[str, Any] | None, where: str) -> bool:
    """Whether an API server says so, which names what is not there: the object that was asked for or its namespace."""
    if told is None or (told.get("kind"), told.get("reason")) != ("Status", "NotFound"):
        return False
    return part(told, "details").get("name") in where.split("/")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def _line(text: object, limit: int = 400) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
