"""The hub's two cookies: the signed-in session, and what binds a pending sign-in to the browser that began it.

``__Host-`` makes the browser itself refuse a cookie that another host (a workspace, say) tries to plant here.
"""

import re
import secrets

from fastapi import Request, Response

from innkeeper.hub.services import HubSettings
from innkeeper.model.people import SESSION_LIFE, SIGN_IN_LIFE

SESSION = "inn_session"
SIGN_IN = "inn_sign_in"

_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")


def fresh() -> str:
    """256 random bits: 43 characters."""
    return secrets.token_urlsafe(32)


def read(request: Request, settings: HubSettings, name: str) -> str | None:
    """The cookie's value if it has the form of one of ours."""
    value = request.cookies.get(_name(settings, name))
    return value if value is not None and _VALUE.fullmatch(value) else None


def write(response: Response, settings: HubSettings, name: str, value: str) -> None:
    """Set it for this host only, out of reach of scripts. Lax: the issuer's redirect back must carry it."""
    life = SESSION_LIFE if name == SESSION else SIGN_IN_LIFE
    response.set_cookie(
        _name(settings, name),
        value,
        max_age=int(life.total_seconds()),
        path="/",
        secure=not settings.plain_cookies,
        httponly=True,
        samesite="lax",
    )


def clear(response: Response, settings: HubSettings, name: str) -> None:
    """Let the browser forget it."""
    response.delete_cookie(
        _name(settings, name), path="/", secure=not settings.plain_cookies, httponly=True, samesite="lax"
    )


def _name(settings: HubSettings, name: str) -> str:
    return name if settings.plain_cookies else f"__Host-{name}"
