"""What a gateway says itself: refusals (a small page or problem+json), the waking page, HAProxy's error files.

Pure text; used by the wake endpoint and by ``config``. A page asks nothing of any other host and works without
scripts.
"""

import base64
import hashlib
import html
import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of the gateway itself. ``slug`` is the problem type; ``retry_after`` in seconds."""

    status: int
    slug: str
    title: str
    detail: str
    retry_after: int | None = None


UNKNOWN = Refusal(404, "not-found", "No workspace here", "There is no workspace at this address.")
PURGED = Refusal(410, "gone", "Gone", "This workspace was purged; its data no longer exist.")
PURGING = Refusal(410, "gone", "Gone", "This workspace is being purged and will not come back.")
SUSPENDED = Refusal(403, "suspended", "Suspended", "This workspace is suspended; its owner has been told why.")
NOT_WAKEABLE = Refusal(
    503, "not-wakeable", "Not available right now", "This workspace cannot be woken at the moment; try again later.", 30
)
LATE = Refusal(
    503, "not-awake-in-time", "Not awake in time", "The workspace did not wake in time; try again in a moment.", 2
)
LEAVING = Refusal(503, "gateway-leaving", "One moment", "This gateway is going away; try again.", 1)

_PLAIN = {
    400: ("Bad request", "The request could not be understood."),
    403: ("Forbidden", "The request was refused."),
    405: ("Method not allowed", "This method is not served here."),
    408: ("Request timed out", "The request took too long to arrive."),
    500: ("Something went wrong", "The gateway could not handle the request."),
    502: ("No valid answer", "The application did not answer the request properly."),
    503: ("Not available right now", "The application could not be reached; try again in a moment."),
    504: ("No answer in time", "The application did not answer in time."),
}


def problem(refusal: Refusal) -> str:
    """RFC 9457, for everything that is not a browser."""
    document: dict[str, object] = {
        "type": f"urn:innkeeper:{refusal.slug}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
    }
    if refusal.retry_after is not None:
        document["retry_after"] = refusal.retry_after
    return json.dumps(document)


def refusal_page(refusal: Refusal) -> str:
    """The same for people."""
    return _page("refusal.html", title=refusal.title, detail=refusal.detail, status=str(refusal.status))


def waking_page(host: str) -> str:
    """Shown while a sleeper starts; it watches ``/.innkeeper/waking`` and reloads itself, or is refreshed."""
    return _page("waking.html", host=host)


def policy(page: str) -> str:
    """The Content-Security-Policy of one of our pages: only its own style and script, and only this host."""
    hashes = {
        kind: " ".join(f"'sha256-{digest}'" for digest in _digests(page, kind)) or "'none'"
        for kind in ("style", "script")
    }
    return (
        f"default-src 'none'; style-src {hashes['style']}; script-src {hashes['script']}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def error_file(status: int) -> str:
    """A whole HTTP message, as HAProxy's ``errorfile`` wants it."""
    title, detail = _PLAIN[status]
    body = refusal_page(Refusal(status, "", title, detail))
    retry = "Retry-After: 2\r\n" if status == 503 else ""  # noqa: PLR2004
    head = (
        f"HTTP/1.1 {status} {title}\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n"
        f"Content-Length: {len(body.encode())}\r\n{retry}\r\n"
    )
    return head + body


def _page(name: str, **values: str) -> str:
    text = _template(name).replace("@STYLE@", _template("pages.css").strip())
    for key, value in values.items():
        text = text.replace(f"@{key.upper()}@", html.escape(value))
    return text


def _digests(page: str, kind: str) -> list[str]:
    found: list[str] = []
    for part in page.split(f"<{kind}>")[1:]:
        digest = hashlib.sha256(part.split(f"</{kind}>")[0].encode()).digest()
        found.append(base64.b64encode(digest).decode())
    return found


def _template(name: str) -> str:
    if name not in _templates:
        _templates[name] = (resources.files("innkeeper.gateway") / "templates" / name).read_text(encoding="utf-8")
    return _templates[name]


_templates: dict[str, str] = {}
