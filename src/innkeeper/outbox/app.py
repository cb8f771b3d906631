"""The outbox's pages: a list, a message, its source. Built by bootstrap with ``create_outbox(folder)``."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from innkeeper.outbox import mails

_SHOWN = 200
"""Messages on the list; older ones are counted."""

_HEADERS = {
    # A mail's text is somebody's input: nothing of it may run or load.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_LINK = re.compile(r"https?://[^\s<>\"']*[^\s<>\"'.,;:!?)]")


def create_outbox(folder: Path) -> Starlette:
    """The ASGI application that shows the mails of this folder."""
    pages = Environment(loader=PackageLoader("innkeeper.outbox"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages.filters["linked"] = linked

    def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(pages.get_template(name).render(values), status, _HEADERS)

    # Plain functions: Starlette runs them in a thread, since they read files.
    def index(_request: Request) -> Response:
        shown, total = mails.newest(folder, limit=_SHOWN)
        return page("list.html", mails=shown, total=total)

    def show(request: Request) -> Response:
        mail = mails.find(folder, request.path_params["name"])
        return page("mail.html", mail=mail) if mail else page("missing.html", 404)

    def source(request: Request) -> Response:
        data = mails.source(folder, request.path_params["name"])
        return Response(data, 200, _HEADERS, "text/plain; charset=utf-8") if data else page("missing.html", 404)

    def health(_request: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    routes = [
        Route("/", index),
        Route("/healthz", health),
        Route("/mail/{name}", show),
        Route("/mail/{name}/source", source),
    ]
    return Starlette(routes=routes)


def linked(text: str) -> Markup:
    """The text escaped, its web addresses as links."""
    result, position = Markup(), 0
    for match in _LINK.finditer(text):
        address = escape(match[0])
        result += escape(text[position : match.start()]) + Markup('<a href="{}">{}</a>').format(address, address)
        position = match.end()
    return result + escape(text[position:])
