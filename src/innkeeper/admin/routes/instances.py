"""/v1/instances."""

from starlette.responses import Response

from innkeeper.admin import routing, views
from innkeeper.admin.call import Reply, TheCall
from innkeeper.admin.paging import PageSize, PageToken, few
from innkeeper.admin.schemas import instances as s
from innkeeper.control import instances as verbs
from innkeeper.model.token import Scope
from innkeeper.model.workspace import Instance
from innkeeper.store import instances as store
from innkeeper.store import spares
from innkeeper.store.session import Session

router = routing.router("instances")


def add_instance(call: TheCall, body: s.NewInstance) -> Response:
    """Register a shared PostgreSQL server."""

    def effect(session: Session, actor: str) -> Reply:
        made = verbs.add(
            session,
            actor=actor,
            name=body.name,
            host=body.host,
            port=body.port,
            admin_secret=body.admin_secret,
            database_capacity=verbs.DATABASES if body.database_capacity is None else body.database_capacity,
            connection_capacity=verbs.CONNECTIONS if body.connection_capacity is None else body.connection_capacity,
            ssl_mode=body.ssl_mode,
        )
        return Reply(_shown(session, made), 201, {"Location": f"/v1/instances/{made.id}"})

    return call.once(effect)


def list_instances(call: TheCall, page_size: PageSize = 0, page_token: PageToken = "") -> Response:
    """All instances, with what is reserved on them."""
    return call.read(
        lambda session: few(
            session,
            call,
            size=page_size,
            token=page_token,
            rows=store.everyone(session),
            name=lambda row: row.name,
            show=lambda row: _shown(session, row),
        )
    )


def get_instance(call: TheCall, instance: str) -> Response:
    """One instance, by id or name."""
    return call.read(lambda session: Reply(_shown(session, verbs.find(session, instance))))


def cordon_instance(call: TheCall, instance: str) -> Response:
    """Place nothing more on it."""
    return call.once(
        lambda session, actor: Reply(_shown(session, verbs.cordon(session, actor=actor, id_or_name=instance)))
    )


def uncordon_instance(call: TheCall, instance: str) -> Response:
    """Place workspaces on it again."""
    return call.once(
        lambda session, actor: Reply(_shown(session, verbs.uncordon(session, actor=actor, id_or_name=instance)))
    )


def _shown(session: Session, row: Instance) -> views.Json:
    databases, connections = store.reserved(session, row.id)
    return views.instance(row, databases=databases, connections=connections, spares=spares.ready(session, row.id))


routing.add(router, "POST", "/instances", add_instance, scope=Scope.ADMIN, answer=s.Instance, status=201)
routing.add(router, "GET", "/instances", list_instances, scope=Scope.READ, answer=s.Instances)
routing.add(router, "GET", "/instances/{instance}", get_instance, scope=Scope.READ, answer=s.Instance)
routing.add(router, "POST", "/instances/{instance}/cordon", cordon_instance, scope=Scope.ADMIN, answer=s.Instance)
routing.add(router, "POST", "/instances/{instance}/uncordon", uncordon_instance, scope=Scope.ADMIN, answer=s.Instance)
