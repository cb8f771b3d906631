"""Signing in and out. The state is used once, in the browser that began, and a sign-in always gets a new session id."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from innkeeper.hub import cookies, guard
from innkeeper.hub.guard import Services
from innkeeper.model.errors import TemporaryError, Unauthenticated
from innkeeper.store import audit, people

_log = structlog.get_logger()

MAX_CODE = 2048
"""Characters of an authorisation code that are passed on to the issuer."""


router = APIRouter(prefix="/auth")


@router.post("/sign-in")
def sign_in(services: Services, request: Request, return_to: Annotated[str, Form(max_length=600)] = "/") -> Response:
    """To the issuer, with fresh secrets bound to this browser."""
    guard.check_origin(request, services)
    begun = services.identity.begin(redirect_uri=services.settings.callback)
    browser = cookies.fresh()
    with services.database.transaction() as session:
        people.begin_sign_in(
            session,
            state=begun.state,
            browser=browser,
            nonce=begun.nonce,
            verifier=begun.verifier,
            return_to=guard.safe_return_to(return_to),
        )
    response = RedirectResponse(begun.url, status_code=303)
    cookies.write(response, services.settings, cookies.SIGN_IN, browser)
    return response


@router.get("/callback")
def callback(  # noqa: PLR0917 - what an issuer's answer may carry
    services: Services, request: Request, state: str = "", code: str = "", error: str = "", iss: str | None = None
) -> Response:
    """Back from the issuer: find out who it is and open a session."""
    browser = cookies.read(request, services.settings, cookies.SIGN_IN)
    if browser is None:
        raise Unauthenticated(
            "this sign-in was not begun in this browser, or it does not keep cookies: start again from here"
        )
    with services.database.transaction() as session:
        # Taken and committed before the issuer is asked: whatever happens next, it is used up.
        pending = people.take_sign_in(session, state=state, browser=browser)
    if pending is None:
        raise Unauthenticated("this sign-in was used already, is too old, or began elsewhere: start again")
    if error or not code or len(code) > MAX_CODE:
        raise Unauthenticated("the identity provider did not sign you in: start again")
    try:
        found = services.identity.complete(
            code=code,
            redirect_uri=services.settings.callback,
            nonce=pending.nonce,
            verifier=pending.verifier,
            issuer=iss,
        )
    except (Unauthenticated, TemporaryError) as refusal:
        # Nobody is known yet, so it is no audit row of a person (DESIGN.md section 10); operators see it here.
        _log.warning("sign-in refused", reason=str(refusal))
        raise
    response = RedirectResponse(pending.return_to, status_code=303)
    session_id = cookies.fresh()
    before = cookies.read(request, services.settings, cookies.SESSION)
    with services.database.transaction() as session:
        user = people.upsert_user(
            session, issuer=found.issuer, subject=found.subject, email=found.email, name=found.name
        )
        if before is not None:
            people.close_session(session, before)
        people.open_session(session, user_id=user.id, session_id=session_id, csrf=cookies.fresh())
        audit.append(session, actor=user.actor, action="hub.sign-in", target=user.actor)
    cookies.write(response, services.settings, cookies.SESSION, session_id)
    cookies.clear(response, services.settings, cookies.SIGN_IN)
    return response


@router.post("/sign-out")
def sign_out(services: Services, request: Request, csrf: Annotated[str, Form(max_length=100)] = "") -> Response:
    """End this browser's session here; the issuer's own goes on."""
    with services.database.transaction() as session:
        who = guard.posting_visitor(request, services, session, csrf)
        value = cookies.read(request, services.settings, cookies.SESSION)
        if value is not None:
            people.close_session(session, value)
        audit.append(session, actor=who.user.actor, action="hub.sign-out", target=who.user.actor)
    response = RedirectResponse("/", status_code=303)
    cookies.clear(response, services.settings, cookies.SESSION)
    return response
