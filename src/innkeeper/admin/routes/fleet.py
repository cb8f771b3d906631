"""/v1/gateways, /v1/breaker, /v1/clock and /v1/drift: what concerns the whole fleet."""

from starlette.responses import Response

from innkeeper.admin import routing, views
from innkeeper.admin.call import Reply, TheCall, respond
from innkeeper.admin.paging import PageSize, PageToken, few
from innkeeper.admin.routes.workspaces import accepted
from innkeeper.admin.schemas import fleet as s
from innkeeper.admin.schemas.operations import Operation
from innkeeper.control import clock, drift, gateways, mending
from innkeeper.model import durations
from innkeeper.model.errors import NotFound
from innkeeper.model.token import Scope
from innkeeper.store import audit, breakers, pace, traffic
from innkeeper.store.session import Session

router = routing.router("fleet")


def list_gateways(call: TheCall, page_size: PageSize = 0, page_token: PageToken = "") -> Response:
    """Every registered boot of every gateway."""
    return call.read(
        lambda session: few(
            session,
            call,
            size=page_size,
            token=page_token,
            rows=traffic.gateways(session),
            name=lambda row: f"{row['gateway_id']}/{row['boot_id']}",
            show=views.gateway,
        )
    )


def remove_gateway(call: TheCall, gateway: str) -> Response:
    """Vouch that a gateway is gone. What it had not handed in counts as traffic now."""
    return call.once(
        lambda session, actor: Reply(
            {"id": gateway, "boots": gateways.remove(session, actor=actor, gateway_id=gateway)}
        )
    )


def show_breaker(call: TheCall) -> Response:
    """The latch on purges, and the pace at which workspaces may fall asleep by themselves."""
    return call.read(_breaker)


def _breaker(session: Session) -> Reply:
    return Reply(views.breaker(breakers.status(session), pace.look(session)))


def reset_breaker(call: TheCall) -> Response:
    """Close it: a person has looked. Purges before now do not count again."""

    def effect(session: Session, actor: str) -> Reply:
        opened = breakers.reset(session)
        detail = {"opened_at": views.when(opened)}
        audit.append(session, actor=actor, action="breaker.reset", target="breaker:purge", detail=detail)
        return _breaker(session)

    return call.once(effect)


def show_clock(call: TheCall) -> Response:
    """Business time and real time."""
    return call.read(lambda session: Reply(views.clock(clock.show(session))))


def advance_clock(call: TheCall, body: s.Passage) -> Response:
    """Let business time pass, due instant by due instant. Only where the clock is movable."""

    def effect(session: Session, actor: str) -> Reply:
        return accepted(clock.advance(session, actor=actor, by=durations.parse(body.by, field="by")))

    return call.once(effect)


def accept_clock(call: TheCall) -> Response:
    """Vouch for business time as it is, after it was in doubt."""

    def effect(session: Session, actor: str) -> Reply:
        clock.accept(session, actor=actor)
        return Reply(views.clock(clock.show(session)))

    return call.once(effect)


def show_drift(call: TheCall) -> Response:
    """Where rows and the outside differ. Asks every cluster and instance."""
    call.admit()
    services = call.services
    if services.runtimes is None or services.servers is None:
        raise NotFound("clusters and instances cannot be reached from this process")
    found = drift.report(services.database, runtimes=services.runtimes, servers=services.servers)
    return respond(Reply({"items": [views.finding(one) for one in found]}))


def fix_drift(call: TheCall) -> Response:
    """Mend what differs where no transition is at work; what cannot be tied to what ended is left, and said."""
    caller = call.admit()
    services = call.services
    if services.runtimes is None or services.servers is None:
        raise NotFound("clusters and instances cannot be reached from this process")
    found = drift.report(services.database, runtimes=services.runtimes, servers=services.servers)
    tools = mending.Tools(services.database, services.runtimes, services.servers, caller.actor)
    return respond(Reply({"items": [views.mended(one) for one in mending.mend(tools, found)]}))


routing.add(router, "GET", "/gateways", list_gateways, scope=Scope.READ, answer=s.Gateways)
routing.add(router, "DELETE", "/gateways/{gateway}", remove_gateway, scope=Scope.ADMIN, answer=s.Removed)
routing.add(router, "GET", "/breaker", show_breaker, scope=Scope.READ, answer=s.Breaker)
routing.add(router, "POST", "/breaker/reset", reset_breaker, scope=Scope.ADMIN, answer=s.Breaker)
routing.add(router, "GET", "/clock", show_clock, scope=Scope.READ, answer=s.Clock)
routing.add(router, "POST", "/clock/advance", advance_clock, scope=Scope.ADMIN, answer=Operation, status=202)
routing.add(router, "POST", "/clock/accept", accept_clock, scope=Scope.ADMIN, answer=s.Clock)
routing.add(router, "GET", "/drift", show_drift, scope=Scope.READ, answer=s.Drift)
routing.add(router, "POST", "/drift/fix", fix_drift, scope=Scope.ADMIN, answer=s.MendedDrift)
