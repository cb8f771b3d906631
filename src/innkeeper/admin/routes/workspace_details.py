"""What lies behind one workspace: why, history, secrets; and what a purge would take, fleet-wide."""

from starlette.responses import Response

from innkeeper.admin import routing, views
from innkeeper.admin.call import Reply, TheCall
from innkeeper.admin.paging import PageSize, PageToken, page
from innkeeper.admin.schemas import workspace_details as s
from innkeeper.control import explain, purges
from innkeeper.control import workspaces as verbs
from innkeeper.model.errors import Forbidden, Gone, NotFound
from innkeeper.model.token import Scope
from innkeeper.model.workspace import State
from innkeeper.store import audit, secrets, shown
from innkeeper.store.session import Session

router = routing.router("workspaces")


def explain_workspace(call: TheCall, slug: str) -> Response:
    """Why it is awake, asleep or about to go: every fact with its time."""

    def query(session: Session) -> Reply:
        workspace = verbs.find(session, slug)
        return Reply(views.why(explain.why(session, workspace), slug=slug, state=workspace.state.value))

    return call.read(query)


def list_workspace_events(call: TheCall, slug: str, page_size: PageSize = 0, page_token: PageToken = "") -> Response:
    """Its history, newest first: audit rows and the steps of its operations."""

    def query(session: Session) -> Reply:
        workspace = verbs.find(session, slug)
        return page(
            session,
            call,
            size=page_size,
            token=page_token,
            fetch=lambda after, limit: shown.happenings(
                session, workspace_id=workspace.id, after=(after[0], after[1]) if after else None, limit=limit
            ),
            place=lambda row: [row["at"].isoformat(), row["place"]],
            show=views.happening,
        )

    return call.read(query)


def list_workspace_secrets(call: TheCall, slug: str) -> Response:
    """Names of the secrets that its app lets the owner see."""

    def query(session: Session) -> Reply:
        return Reply({"items": secrets.shown_to_owner(session, verbs.find(session, slug).id)})

    return call.read(query)


def reveal_workspace_secret(call: TheCall, slug: str, name: str) -> Response:
    """Show one secret; the audit trail notes who looked."""

    def effect(session: Session, actor: str) -> Reply:
        workspace = verbs.find(session, slug)
        if workspace.state is State.PURGED:
            raise Gone(f"workspace {slug} was purged: its secrets are gone for ever")
        sealed = secrets.sealed(session, workspace.id).get(name)
        if sealed is None:
            raise NotFound(f"workspace {slug} has no secret {name!r}: see inn workspace secret {slug}")
        if name not in secrets.shown_to_owner(session, workspace.id):
            raise Forbidden(f"the app of workspace {slug} does not let {name} be shown")
        value = call.services.box.open(sealed, context=verbs.secret_context(workspace.id, name)).decode()
        audit.append(session, actor=actor, action="secret.reveal", target=workspace.id, detail={"name": name})
        return Reply({"name": name, "value": value})

    return call.once(effect)


def list_purges(call: TheCall, page_size: PageSize = 0, page_token: PageToken = "") -> Response:
    """Sleepers with a notice or the purge due within seven days: which would go now, and why not. Changes nothing."""

    def query(session: Session) -> Reply:
        return page(
            session,
            call,
            size=page_size,
            token=page_token,
            fetch=lambda after, limit: shown.retention_due(session, after=after[0] if after else "", limit=limit),
            place=lambda slug: [slug],
            show=lambda slug: views.preview(purges.preview(session, verbs.find(session, slug))),
        )

    return call.read(query)


routing.add(router, "GET", "/workspaces/{slug}/why", explain_workspace, scope=Scope.READ, answer=s.Why)
routing.add(router, "GET", "/workspaces/{slug}/events", list_workspace_events, scope=Scope.READ, answer=s.Happenings)
routing.add(router, "GET", "/workspaces/{slug}/secrets", list_workspace_secrets, scope=Scope.READ, answer=s.SecretNames)
routing.add(
    router, "POST", "/workspaces/{slug}/secrets/{name}", reveal_workspace_secret, scope=Scope.ADMIN, answer=s.Secret
)
routing.add(router, "GET", "/purges", list_purges, scope=Scope.READ, answer=s.Previews)
