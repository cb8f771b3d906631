"""One request: who asks, in which transaction, and what is answered. Endpoints get a ``Call`` and use it once.

The endpoint runs in a thread; its transaction is committed before the response exists, so a failed commit never
answers 2xx. With an Idempotency-Key the key is claimed first, in the same transaction as the effect.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Any, LiteralString, TypeAlias, cast

import structlog
from fastapi import Depends, Request
from psycopg import sql
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from innkeeper.admin.refusals import Refusals
from innkeeper.admin.services import AdminServices
from innkeeper.control import tokens
from innkeeper.control.tokens import Caller, KnownButRefused
from innkeeper.model import token as form
from innkeeper.model.errors import BreakerOpen, Forbidden, InvalidInput, Refused, TemporaryError, Unauthenticated
from innkeeper.model.token import Scope
from innkeeper.store import breakers, idempotency
from innkeeper.store import tokens as token_rows
from innkeeper.store.glances import Glances
from innkeeper.store.idempotency import Answer
from innkeeper.store.session import Session

log = structlog.get_logger()

KEY = "innkeeper.call"
"""Where routing.py leaves the call in the ASGI scope."""

_KEY_MAX = 255
_LOCK_TIMEOUT = "10s"
"""A request that waits longer for a row (or for the twin with its idempotency key) answers 503."""

_NOT_YET = Response()
"""No answer: the key is new."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered: a JSON body, a status, headers beside the content type."""

    body: object
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Look:
    """A query of one row that is asked often: its text alone, and with the look-up of the token beside it."""

    __slots__ = ("alone", "beside")

    def __init__(self, query: sql.Composed) -> None:
        self.alone = query
        self.beside: LiteralString = token_rows.beside(query)


class Call:
    """One request on its way through an endpoint. ``body``: the raw bytes of a POST, read before the endpoint runs."""

    __slots__ = ("body", "request", "scope", "services")

    def __init__(self, request: Request, services: AdminServices, scope: Scope | None) -> None:
        self.request = request
        self.services = services
        self.scope = scope
        self.body = b""

    def read(self, query: Callable[[Session], Reply]) -> Response:
        """Run queries for someone who may, all on one state of things."""
        return self._run(self.services.database.snapshot(), lambda session, _: query(session))

    async def look(
        self, query: Look, values: Mapping[str, object], show: Callable[[dict[str, Any] | None], Reply]
    ) -> Response:
        """Show the row of one query (None: there is none) to someone who may: in one round trip on the event loop.

        That answers who is known, may and finds something. Anyone and anything else is judged in a thread, anew.
        """
        found = await self._glance(query, values)
        if found is not None:
            return respond(show(found))

        def again(session: Session, _: Caller) -> Reply:
            return show(session.execute(query.alone, values).fetchone())

        return await run_in_threadpool(self._run, self.services.database.autocommit(), again)

    async def _glance(self, query: Look, values: Mapping[str, object]) -> dict[str, Any] | None:
        """The row, for a token that is beyond doubt and of which nothing is to be noted."""
        glances: Glances = self.request.app.state.glances
        presented = form.parse(bearer(self.request) or "")
        if presented is None or (row := await glances.row(query.beside, {"token_id": presented.id, **values})) is None:
            return None
        try:
            caller = tokens.judge(presented, token_rows.part(row))
            self._check_scope(caller)
        except Refused:
            return None
        return None if caller.touch else row

    def once(self, effect: Callable[[Session, str], Reply]) -> Response:
        """Run an effect (session, actor) for someone who may; the same idempotency key gets the same answer."""
        key = self._idempotency_key()

        def act(session: Session, caller: Caller) -> Reply | Response:
            session.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
            if key is None:
                return effect(session, caller.actor)
            return self._keyed(session, caller.actor, key, effect)

        return self._run(self.services.database.transaction(), act)

    def answered(self) -> Response | None:
        """What this request's idempotency key was answered before, if anything; who may not ask is refused.

        For what asks the outside before its effect: a repeated request must not depend on whether that answers now.
        """
        key = self._idempotency_key()

        def act(session: Session, caller: Caller) -> Reply | Response:
            before = None if key is None else self._before(session, caller.actor, key)
            return _NOT_YET if before is None else before

        found = self._run(self.services.database.autocommit(), act)
        return None if found is _NOT_YET else found

    def admit(self) -> Caller:
        """Who asks, if they may; ``Unauthenticated`` or ``Forbidden`` otherwise. For answers that are streamed."""
        found: list[Caller] = []

        def note(_: Session, caller: Caller) -> Reply:
            found.append(caller)
            return Reply(None)

        self._run(self.services.database.autocommit(), note)
        return found[0]

    def _run(
        self,
        opened: AbstractContextManager[Session],
        act: Callable[[Session, Caller], Reply | Response],
    ) -> Response:
        caller: Caller | None = None
        forbidden = ""
        try:
            with opened as session:
                caller = tokens.authenticate(session, bearer(self.request))
                self._check_scope(caller)
                answer = act(session, caller)
        except KnownButRefused as refusal:
            self._note_refusal(refusal.actor, str(refusal))
            raise
        except Unauthenticated:
            refusals: Refusals = self.request.app.state.refusals
            refusals.note(self.request.client.host if self.request.client else None)
            raise
        except Forbidden as refusal:
            forbidden = str(refusal)
            raise
        except BreakerOpen:
            # What opened it was rolled back with the request: it stays open all the same until a person has looked.
            with self.services.database.transaction() as session:
                breakers.judge(session)
            raise
        finally:
            self._note(caller, forbidden=forbidden)
        return answer if isinstance(answer, Response) else respond(answer)

    def _check_scope(self, caller: Caller) -> None:
        if self.scope is not None and not caller.may(self.scope):
            granted = ", ".join(caller.scopes)
            message = f"this needs scope {self.scope} and the token has {granted}: use a token that has it"
            raise Forbidden(message, scope=self.scope.value)

    def _note(self, caller: Caller | None, *, forbidden: str) -> None:
        """After the transaction, which may have been rolled back: what it did not allow, and that the token is used."""
        if caller is None:
            return
        if forbidden:
            self._note_refusal(caller.actor, forbidden)
        if not caller.touch:
            return
        try:
            with self.services.database.transaction() as session:
                token_rows.used(session, caller.token_id)
        except TemporaryError as error:  # the answer is decided already; the next request notes it
            log.info("token.use-not-noted", error=str(error))

    def _note_refusal(self, actor: str, why: str) -> None:
        with self.services.database.transaction() as session:
            tokens.refused(session, actor=actor, action=f"{self.request.method} {self.request.url.path[:200]}", why=why)

    def _keyed(self, session: Session, actor: str, key: str, effect: Callable[[Session, str], Reply]) -> Response:
        box, context = self.services.box, idempotency.context(actor, key)
        before = idempotency.claim(session, actor=actor, key=key, request_hash=self._fingerprint())
        if before is not None:
            return self._again(before, actor, key)
        response = respond(effect(session, actor))
        sealed = box.seal(bytes(response.body), context=context)
        kept = {name: value for name, value in response.headers.items() if name in ("location", "etag")}
        idempotency.record(session, actor=actor, key=key, answer=Answer(response.status_code, kept, sealed))
        return response

    def _before(self, session: Session, actor: str, key: str) -> Response | None:
        before = idempotency.answered(session, actor=actor, key=key, request_hash=self._fingerprint())
        return None if before is None else self._again(before, actor, key)

    def _again(self, before: Answer, actor: str, key: str) -> Response:
        body = self.services.box.open(before.body, context=idempotency.context(actor, key))
        headers = dict(before.headers) | {"Idempotency-Replayed": "true"}
        return Response(body, status_code=before.status, headers=headers, media_type="application/json")

    def _idempotency_key(self) -> str | None:
        key = self.request.headers.get("idempotency-key")
        if key is None or self.request.method != "POST":
            return None
        if not 1 <= len(key) <= _KEY_MAX or not key.isascii() or not key.isprintable():
            message = f"an Idempotency-Key has 1 to {_KEY_MAX} printable ASCII characters: a UUID does"
            raise InvalidInput(message, field="Idempotency-Key")
        return key

    def _fingerprint(self) -> bytes:
        """The same for the same request, however its JSON is spaced and ordered."""
        try:
            body = json.dumps(json.loads(self.body or b"null"), sort_keys=True).encode()
        except ValueError:
            body = self.body  # an app spec in YAML
        digest = hashlib.sha256(f"{self.request.method} {self.request.url.path}?{self.request.url.query}\n".encode())
        digest.update(body)
        return digest.digest()


def respond(reply: Reply) -> Response:
    """Straight to bytes: no model is filled in again on the way out."""
    body = json.dumps(reply.body, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, status_code=reply.status, headers=dict(reply.headers), media_type="application/json")


def bearer(request: Request) -> str | None:
    """The token of the Authorization header; None when there is none of that kind."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


async def of_request(request: Request) -> Call:
    """The call of a request."""
    return cast("Call", request.scope[KEY])


TheCall: TypeAlias = Annotated[Call, Depends(of_request)]
"""How an endpoint asks for its call."""
