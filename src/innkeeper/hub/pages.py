"""Rendering: the templates, what every page knows, and addresses of static files that may be cached for ever.

The static folder and base.html are shared with the mail outbox and, later, the console: they pass their own folders.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources

from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import Response
from starlette.types import Scope

from innkeeper.hub import views

STATIC = "/static"

_STATIC_FOLDER = resources.files("innkeeper.hub") / "static"


@cache
def environment() -> Environment:
    """Autoescaping, and a name that is missing is an error, not an empty string."""
    made = Environment(
        loader=PackageLoader("innkeeper.hub"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    made.globals["asset"] = asset
    made.filters["absolute"] = views.absolute
    made.filters["capitalize_first"] = _capitalize_first
    return made


def _capitalize_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def render(template: str, **names: object) -> str:
    """A fragment or page as text."""
    return environment().get_template(template).render(**names)


def page(
    request: Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **names: object,
) -> HTMLResponse:
    """A whole page. ``who`` is the visitor, None on pages before the sign-in."""
    known = {"settings": request.app.state.services.settings, "who": None, "path": request.url.path}
    return HTMLResponse(render(template, **(known | names)), status_code=status, headers=headers)


@cache
def asset(name: str) -> str:
    """The address of a static file, with its content's hash: a new version has a new address."""
    digest = hashlib.sha256((_STATIC_FOLDER / name).read_bytes()).hexdigest()
    return f"{STATIC}/{name}?v={digest[:12]}"


class Static(StaticFiles):
    """Static files of the package. With the hash in the address they never change; fonts are named without."""

    def __init__(self) -> None:
        super().__init__(packages=[("innkeeper.hub", "static")])

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if response.status_code == 200:  # noqa: PLR2004 - OK
            hashed = scope["query_string"].startswith(b"v=")
            lasting = "public, max-age=31536000, immutable" if hashed else "public, max-age=86400"
            response.headers["Cache-Control"] = lasting
        return response
