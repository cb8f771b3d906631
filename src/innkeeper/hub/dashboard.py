"""The front page: the sign-in for strangers, a customer's workspaces for members, and what can be asked of one."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from innkeeper.control import workspaces
from innkeeper.hub import guard, pages, views
from innkeeper.hub.guard import Services, Visitor
from innkeeper.hub.services import HubServices
from innkeeper.model import entitlements, lifecycle
from innkeeper.model.errors import Forbidden, InvalidInput, NotFound
from innkeeper.model.people import Membership, Role
from innkeeper.model.workspace import State
from innkeeper.store import audit, clock, customers, secrets
from innkeeper.store import workspaces as store
from innkeeper.store.session import Session

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Section:
    """One customer on the dashboard."""

    membership: Membership
    cards: tuple[views.Card, ...]
    purged: tuple[views.Card, ...]
    plan: str
    limit: int

    @property
    def counted(self) -> str:
        """How many there are, in words."""
        return views.counted(len(self.cards), limit=self.limit)

    @property
    def may_create(self) -> bool:
        """Whether the plan has room and the visitor may use it."""
        return len(self.cards) < self.limit and self.membership.role is not Role.MEMBER


@router.get("/")
def front(services: Services, request: Request, return_to: str = "/") -> Response:
    """Strangers see what this is and the sign-in, members their workspaces, newcomers the sign-up."""
    with services.database.transaction() as session:
        try:
            who = guard.visitor(request, services, session)
        except guard.SignInNeededError:
            return pages.page(request, "landing.html", return_to=guard.safe_return_to(return_to))
        if not who.memberships:
            return RedirectResponse("/welcome", status_code=303)
        sections = _sections(session, services, who)
    return pages.page(request, "dashboard.html", who=who, sections=sections)


@router.get("/workspaces/list")
def listed(services: Services, request: Request) -> Response:
    """The cards alone, for the open dashboard that follows along by itself."""
    with services.database.transaction() as session:
        who = guard.visitor(request, services, session, touch=False)
        sections = _sections(session, services, who)
    return pages.page(request, "_sections.html", who=who, sections=sections)


@router.post("/workspaces/{slug}/requests")
def ask(
    services: Services,
    request: Request,
    slug: str,
    wanted: Annotated[str, Form(alias="request")] = "",
    csrf: Annotated[str, Form()] = "",
) -> Response:
    """Wake, put to sleep, try again: whatever the lifecycle takes now and customers may ask themselves."""
    with services.database.transaction() as session:
        who = guard.posting_visitor(request, services, session, csrf)
        workspace, membership = guard.workspace_of(session, who, slug)
        try:
            asked = lifecycle.Request(wanted)
        except ValueError as error:
            raise InvalidInput("there is no such request: use the buttons", field="request") from error
        if asked not in views.SELF_SERVICE:
            raise Forbidden(f"only an operator may {asked} a workspace: contact support")
        guard.manager_only(membership, f"{asked} a workspace")
        operation = workspaces.request(
            session, actor=who.user.actor, slug=workspace.slug, request=asked, box=services.box
        )
    return RedirectResponse(f"/operations/{operation.id}", status_code=303)


@router.post("/workspaces/{slug}/secrets/{name}")
def reveal(services: Services, request: Request, slug: str, name: str, csrf: Annotated[str, Form()] = "") -> Response:
    """Show the owner one secret of the application, and write down that it was shown."""
    with services.database.transaction() as session:
        who = guard.posting_visitor(request, services, session, csrf)
        workspace, membership = guard.workspace_of(session, who, slug)
        guard.owner_only(membership, "see its secrets")
        if name not in secrets.shown_to_owner(session, workspace.id):
            raise NotFound("there is no such secret to show")
        sealed = secrets.sealed(session, workspace.id)[name]
        value = services.box.open(sealed, context=workspaces.secret_context(workspace.id, name)).decode()
        audit.append(
            session,
            actor=who.user.actor,
            action="secret.reveal",
            target=workspace.id,
            detail={"name": name},
        )
    template = "_secret.html" if "hx-request" in request.headers else "secret.html"
    return pages.page(request, template, who=who, slug=workspace.slug, name=name, value=value)


def _sections(session: Session, services: HubServices, who: Visitor) -> list[Section]:
    now = clock.now(session).business
    found: list[Section] = []
    for membership in who.memberships:
        customer = customers.find(session, membership.customer_id)
        if customer is None:  # pragma: no cover - the membership's foreign key
            continue
        cards: list[views.Card] = []
        purged: list[views.Card] = []
        for workspace in store.by_customer(session, customer.id):
            card = views.card(
                workspace=workspace,
                membership=membership,
                secrets=secrets.shown_to_owner(session, workspace.id),
                domain=services.domain,
                now=now,
            )
            (purged if workspace.state is State.PURGED else cards).append(card)
        limit = entitlements.plan(customer.plan).workspaces
        found.append(Section(membership, tuple(cards), tuple(purged), customer.plan, limit))
    return found
