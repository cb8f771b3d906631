"""What an orchestrator asks: is the process alive, can it serve. Answered for every Host."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from innkeeper.hub.guard import Services
from innkeeper.model.errors import TemporaryError

router = APIRouter()


@router.get("/healthz")
async def alive() -> Response:
    """The process answers."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
def ready(services: Services) -> Response:
    """The state database answers."""
    try:
        with services.database.transaction() as session:
            session.execute("SELECT 1")
    except TemporaryError as error:
        return PlainTextResponse(f"{error}\n", status_code=503)
    return PlainTextResponse("ok\n")
