"""Headers of every answer, and the one host that is answered. Plain ASGI: BaseHTTPMiddleware costs four times as much.

Used by app.py. The content security policy allows this origin only and no inline script or style; ``form-action`` names
the issuer as well, because browsers apply it to the redirect that follows the sign-in form.
"""

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from innkeeper.hub.services import HubSettings

YEAR = 31_536_000
"""Seconds."""


PROBES = frozenset({"/healthz", "/readyz"})
"""Asked by address, not by name; they say nothing about anybody."""


def content_security_policy(settings: HubSettings) -> str:
    """Nothing from elsewhere, nothing inline, no frame around it."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",  # Pico's form icons are data: images
            "font-src 'self'",
            "connect-src 'self'",
            f"form-action 'self' {settings.issuer_origin}",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def protect(headers: MutableHeaders, settings: HubSettings) -> None:
    """Add what every answer carries. Also for the page of an unforeseen error, which Starlette makes outside of us."""
    headers["Content-Security-Policy"] = content_security_policy(settings)
    # Not no-referrer: browsers then send `Origin: null` with forms, and that is what posts are checked by.
    headers["Referrer-Policy"] = "same-origin"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["X-Frame-Options"] = "DENY"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
    if settings.origin.startswith("https:"):
        headers["Strict-Transport-Security"] = f"max-age={YEAR}"
    headers.setdefault("Cache-Control", "no-store")


class SecurityHeaders:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, settings: HubSettings) -> None:
        self._app = app
        self._host = settings.host.encode()
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if hosts != [self._host] and scope["path"] not in PROBES:
            # Another name for this address is somebody's DNS rebinding, or a gateway's wrong route.
            await PlainTextResponse("This host is not served here.\n", status_code=421)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                protect(MutableHeaders(scope=message), self._settings)
            await send(message)

        await self._app(scope, receive, with_headers)
