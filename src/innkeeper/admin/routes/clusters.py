"""/v1/clusters: where activations run. A cluster is looked at before it is registered, and whenever somebody asks."""

from typing import Annotated

from fastapi import Header
from starlette.responses import Response

from innkeeper.admin import routing, views
from innkeeper.admin.call import Call, Reply, TheCall, respond
from innkeeper.admin.paging import PageSize, PageToken, few
from innkeeper.admin.routes.workspaces import accepted
from innkeeper.admin.schemas import clusters as s
from innkeeper.admin.schemas.operations import Operation
from innkeeper.control import clusters as verbs
from innkeeper.control import draining
from innkeeper.model.errors import Conflict, NotFound, PermanentError, PreconditionFailed, TemporaryError
from innkeeper.model.placement import Load
from innkeeper.model.token import Scope
from innkeeper.model.workspace import Cluster
from innkeeper.ports import ClusterInspector, ClusterReport, Trial
from innkeeper.store import audit
from innkeeper.store import clusters as store
from innkeeper.store.locks import held
from innkeeper.store.session import Session

router = routing.router("clusters")

IfMatch = Annotated[str | None, Header(description="ETag of the cluster as you read it: refused when it has changed")]


def add_cluster(call: TheCall, body: s.NewCluster) -> Response:
    """Register a Kubernetes cluster. It is asked first: its version, our rights there, its DNS servers."""
    before = call.answered()
    if before is not None:
        return before
    wanted = verbs.proposed(
        name=body.name,
        access=body.access,
        capacity=verbs.CAPACITY if body.capacity is None else body.capacity,
        dns_peers=body.dns_peers,
    )
    report = _inspector(call).inspect(wanted)  # with no transaction open

    def effect(session: Session, actor: str) -> Reply:
        made = verbs.add(session, actor=actor, cluster=wanted, report=report)
        return Reply(_shown(session, Load(made, 0)), 201, {"Location": f"/v1/clusters/{made.id}"})

    return call.once(effect)


def list_clusters(call: TheCall, page_size: PageSize = 0, page_token: PageToken = "") -> Response:
    """All clusters, with what runs on them."""
    return call.read(
        lambda session: few(
            session,
            call,
            size=page_size,
            token=page_token,
            rows=store.loads(session),
            name=lambda row: row.cluster.name,
            show=lambda row: _shown(session, row),
        )
    )


def get_cluster(call: TheCall, cluster: str) -> Response:
    """One cluster, by id or name. Its ETag is what If-Match takes."""
    return call.read(lambda session: _one(session, cluster))


def check_cluster(call: TheCall, cluster: str) -> Response:
    """Ask it as it is asked before it is registered. What stands against it is in ``problems``."""
    call.admit()
    with call.services.database.transaction() as session:
        found = verbs.find(session, cluster)
    if found.kind == "local":
        return respond(Reply(_checked(found, problems=[])))
    try:
        report = _inspector(call).inspect(found)
    except (TemporaryError, PermanentError) as error:
        return respond(Reply(_checked(found, problems=[str(error)])))
    return respond(Reply(_checked(found, problems=verbs.unfit(report), report=report)))


def _checked(cluster: Cluster, *, problems: list[str], report: ClusterReport | None = None) -> views.Json:
    return {
        "cluster": cluster.name,
        "version": ".".join(str(part) for part in report.version) if report else None,
        "missing": list(report.missing) if report else [],
        "dns_peers": list(cluster.dns_peers),
        "problems": problems,
    }


def try_cluster(call: TheCall, cluster: str) -> Response:
    """Try whether it enforces Pod Security and network policies, with pods in a namespace that goes again.

    Takes some ten seconds, and less than a minute.
    """
    caller, inspector, database = call.admit(), _inspector(call), call.services.database
    with database.autocommit() as session:
        found = verbs.find(session, cluster)
    if found.kind == "local":
        return respond(Reply(views.trial(found, Trial(()))))
    with held(database, f"trial {found.id}") as mine:
        if not mine:
            raise Conflict(f"cluster {found.name} is being tried at this moment: ask again in a minute")
        with database.transaction() as session:
            audit.append(session, actor=caller.actor, action="cluster.try", target=found.id)
        return respond(Reply(views.trial(found, inspector.try_isolation(found))))


def cordon_cluster(call: TheCall, cluster: str, if_match: IfMatch = None) -> Response:
    """Place nothing more on it."""

    def effect(session: Session, actor: str) -> Reply:
        _expect(session, cluster, if_match)
        return _one(session, verbs.cordon(session, actor=actor, id_or_name=cluster).id)

    return call.once(effect)


def uncordon_cluster(call: TheCall, cluster: str, if_match: IfMatch = None) -> Response:
    """Place workspaces on it again; a drain of it ends where it is."""

    def effect(session: Session, actor: str) -> Reply:
        _expect(session, cluster, if_match)
        return _one(session, verbs.uncordon(session, actor=actor, id_or_name=cluster).id)

    return call.once(effect)


def drain_cluster(call: TheCall, cluster: str, if_match: IfMatch = None) -> Response:
    """Move everything that is awake on it elsewhere; requests are held meanwhile. It is cordoned in the end."""

    def effect(session: Session, actor: str) -> Reply:
        _expect(session, cluster, if_match)
        return accepted(draining.begin(session, actor=actor, id_or_name=cluster))

    return call.once(effect)


def _inspector(call: Call) -> ClusterInspector:
    inspector = call.services.inspector
    if inspector is None:
        raise NotFound("clusters cannot be reached from this process")
    return inspector


def _expect(session: Session, cluster: str, if_match: str | None) -> None:
    """``PreconditionFailed`` unless the cluster's version, held until the end, is among those named."""
    if if_match is None or if_match.strip() == "*":
        return
    found = verbs.find(session, cluster, lock=True)
    version = store.version(session, found.id)
    if views.etag(version) not in [tag.strip() for tag in if_match.split(",")]:
        message = f"cluster {found.name} has changed since you read it: read it again"
        raise PreconditionFailed(message, version=version)


def _one(session: Session, cluster: str) -> Reply:
    found = verbs.find(session, cluster)
    load = next(load for load in store.loads(session) if load.cluster.id == found.id)
    return Reply(_shown(session, load), 200, {"ETag": views.etag(store.version(session, found.id))})


def _shown(session: Session, load: Load) -> views.Json:
    return views.cluster(load, operation=store.drain_operation(session, load.cluster.id))


_CLUSTER = "/clusters/{cluster}"

routing.add(router, "POST", "/clusters", add_cluster, scope=Scope.ADMIN, answer=s.Cluster, status=201)
routing.add(router, "GET", "/clusters", list_clusters, scope=Scope.READ, answer=s.Clusters)
routing.add(router, "GET", _CLUSTER, get_cluster, scope=Scope.READ, answer=s.Cluster)
routing.add(router, "GET", f"{_CLUSTER}/check", check_cluster, scope=Scope.OPERATE, answer=s.ClusterCheck)
routing.add(router, "POST", f"{_CLUSTER}/try", try_cluster, scope=Scope.OPERATE, answer=s.ClusterTrial)
routing.add(router, "POST", f"{_CLUSTER}/cordon", cordon_cluster, scope=Scope.ADMIN, answer=s.Cluster)
routing.add(router, "POST", f"{_CLUSTER}/uncordon", uncordon_cluster, scope=Scope.ADMIN, answer=s.Cluster)
routing.add(router, "POST", f"{_CLUSTER}/drain", drain_cluster, scope=Scope.ADMIN, answer=Operation, status=202)
