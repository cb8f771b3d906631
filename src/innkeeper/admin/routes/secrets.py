"""/v1/secrets: the key-encryption keys, what is sealed under each, and sealing again under the newest."""

from starlette.responses import Response

from innkeeper.admin import routing, views
from innkeeper.admin.call import Reply, TheCall
from innkeeper.admin.routes.workspaces import accepted
from innkeeper.admin.schemas import secrets as s
from innkeeper.admin.schemas.operations import Operation
from innkeeper.control import reseal
from innkeeper.model.token import Scope

router = routing.router("secrets")


def show_secrets(call: TheCall) -> Response:
    """Every key-encryption key that is there or needed, and how many values are sealed under it."""
    return call.read(
        lambda session: Reply({"items": [views.key_use(use) for use in reseal.status(session, call.services.box)]})
    )


def reseal_secrets(call: TheCall) -> Response:
    """Seal everything again under the newest key; workspaces run, wake and sleep meanwhile."""
    return call.once(lambda session, actor: accepted(reseal.ask(session, actor=actor, box=call.services.box)))


routing.add(router, "GET", "/secrets", show_secrets, scope=Scope.READ, answer=s.KeyUses)
routing.add(router, "POST", "/secrets/reseal", reseal_secrets, scope=Scope.ADMIN, answer=Operation, status=202)
