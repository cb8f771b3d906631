"""/healthz and /readyz: for probes, without a token, without a word about the inside."""

from importlib.metadata import version

from fastapi import Request
from starlette.responses import Response

from innkeeper.admin import routing
from innkeeper.admin.call import Reply, respond
from innkeeper.admin.schemas import process as s
from innkeeper.admin.services import AdminServices
from innkeeper.model.errors import TemporaryError
from innkeeper.store import schema

router = routing.router("process", prefix="")

VERSION = version("innkeeper")


async def healthz() -> Response:
    """The process answers."""
    return _ok()


def readyz(request: Request) -> Response:
    """It can serve: the state database answers and has at least this version's schema."""
    services: AdminServices = request.app.state.services
    with services.database.transaction() as session:
        row = session.execute("SELECT max(version_num) AS version FROM alembic_version").fetchone()
    found = None if row is None else row["version"]
    # A newer one is served too: the version before runs on it until it is replaced (invariant I13).
    if found is None or found < schema.HEAD:
        raise TemporaryError("the state database has an older version's schema: run inn db upgrade", delay=5.0)
    return _ok()


def _ok() -> Response:
    return respond(Reply({"status": "ok", "version": VERSION}))


routing.add(router, "GET", "/healthz", healthz, scope=routing.PUBLIC, answer=s.Health)
routing.add(router, "GET", "/readyz", readyz, scope=routing.PUBLIC, answer=s.Health)
