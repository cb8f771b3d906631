"""The development issuer: nanoidp's own application, of which only OpenID Connect is served.

Run by issuer_process.py. What differs from the command `nanoidp`: its pages would fetch a style from a CDN, so a
content security policy forbids every foreign address and our own sign-in page replaces its; its management pages, SAML
and token-minting API answer 404; it runs on werkzeug's server without the banner.
"""

import logging
import sys
from pathlib import Path

from flask import Flask, Response, abort, request
from jinja2 import BaseLoader, ChoiceLoader, PackageLoader
from nanoidp.app import create_app
from nanoidp.config import ConfigurationRejected
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
"""No ``form-action``: browsers apply it to the redirect back to the hub as well."""

SERVED = frozenset(
    {
        "oauth.oidc_config",
        "oauth.jwks",
        "oauth.authorize",
        "oauth.token",
        "oauth.userinfo",
        "health",
    }
)
"""Flask endpoints that answer; everything else is 404."""


def make_app(directory: Path) -> Flask:
    """The application on a directory that issuer.prepare() wrote, hardened for one machine."""
    app = create_app(str(directory), profile="stricter-dev", strict_config=True)
    # Before nanoidp's own of the same name. The environment is made once, by the first access.
    app.jinja_env.loader = ChoiceLoader([PackageLoader("innkeeper.adapters.local", "issuer_templates"), _loader(app)])

    @app.before_request
    def only_openid_connect() -> None:  # pyright: ignore[reportUnusedFunction]
        if request.endpoint not in SERVED:
            abort(404)

    @app.after_request
    def nothing_from_elsewhere(response: Response) -> Response:  # pyright: ignore[reportUnusedFunction]
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return app


def _loader(app: Flask) -> BaseLoader:
    loader = app.jinja_env.loader
    if loader is None:
        message = "nanoidp has no templates: its package is incomplete"
        raise RuntimeError(message)
    return loader


class _Quiet(WSGIRequestHandler):
    """No line per request: codes travel in its addresses."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def make_issuer(directory: Path, *, host: str, port: int) -> BaseWSGIServer:
    """The application, listening; what its configuration lacks ends the process."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    try:
        app = make_app(directory)
    except ConfigurationRejected as error:
        sys.exit(f"the development issuer's configuration is broken: {error.message}")
    return make_server(host, port, app, threaded=True, request_handler=_Quiet)
