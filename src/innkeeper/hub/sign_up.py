"""Naming the organisation, choosing a slug, creating a workspace. The slug is checked while it is typed."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from innkeeper.control import customers, workspaces
from innkeeper.hub import guard, pages
from innkeeper.hub.guard import Services, Visitor
from innkeeper.hub.services import HubServices
from innkeeper.model import slugs
from innkeeper.model.errors import Conflict, InvalidInput, NoCapacity, NotFound, Refused, SlugTaken
from innkeeper.model.people import Role
from innkeeper.model.workspace import Operation
from innkeeper.store import apps as registered
from innkeeper.store import people
from innkeeper.store.session import Session

router = APIRouter()

Text = Annotated[str, Form()]

STATUS = {InvalidInput: 422, Conflict: 409, NoCapacity: 503}
"""What a form that comes back with a remark is answered with. Beyond the plan (Forbidden) is a page, and recorded."""


@router.get("/welcome")
def welcome(services: Services, request: Request) -> Response:
    """The form for somebody who belongs to no customer yet."""
    with services.database.transaction() as session:
        who = guard.visitor(request, services, session)
        names = _app_names(session)
    if who.memberships:
        return RedirectResponse("/", status_code=303)
    return _form(request, services, "welcome.html", who=who, apps=names)


@router.post("/welcome")
def sign_up(  # noqa: PLR0917 - a form's fields
    services: Services, request: Request, name: Text = "", slug: Text = "", app: Text = "", csrf: Text = ""
) -> Response:
    """A customer, its owner and its first workspace, all or nothing."""
    with services.database.transaction() as session:
        who = guard.posting_visitor(request, services, session, csrf)
        names = _app_names(session)
    try:
        with services.database.transaction() as session:
            people.lock_user(session, who.user.id)
            if people.memberships(session, who.user.id):
                return RedirectResponse("/", status_code=303)
            # The slug first: what is wrong with it is said before a taken name is.
            workspaces.check_slug(session, slug.strip())
            customer = customers.create(
                session,
                actor=who.user.actor,
                name=name,
                contact_name=who.user.name,
                contact_email=who.user.email,
            )
            people.add_member(session, customer_id=customer.id, user_id=who.user.id, role=Role.OWNER)
            operation = _create(session, services, who, customer_id=customer.id, slug=slug, app=app)
    except (InvalidInput, Conflict, NoCapacity) as refusal:
        return _form(request, services, "welcome.html", who=who, apps=names, refusal=refusal, name=name, slug=slug)
    return RedirectResponse(f"/operations/{operation.id}", status_code=303)


@router.get("/workspaces/new")
def new(services: Services, request: Request, customer: str = "") -> Response:
    """The form for another workspace of a customer."""
    with services.database.transaction() as session:
        who = guard.visitor(request, services, session)
        names = _app_names(session)
    chosen = _customer(who, customer)
    return _form(request, services, "new.html", who=who, apps=names, customer=chosen)


@router.post("/workspaces")
def create(  # noqa: PLR0917 - a form's fields
    services: Services, request: Request, customer: Text = "", slug: Text = "", app: Text = "", csrf: Text = ""
) -> Response:
    """Another workspace, as the plan allows."""
    with services.database.transaction() as session:
        who = guard.posting_visitor(request, services, session, csrf)
        names = _app_names(session)
    chosen = _customer(who, customer)
    membership = who.member_of(chosen)
    if membership is None:  # pragma: no cover - _customer() has refused
        raise NotFound("there is no such customer among yours")
    guard.manager_only(membership, "create a workspace")
    try:
        with services.database.transaction() as session:
            operation = _create(session, services, who, customer_id=chosen, slug=slug, app=app)
    except (InvalidInput, Conflict, NoCapacity) as refusal:
        return _form(request, services, "new.html", who=who, apps=names, refusal=refusal, customer=chosen, slug=slug)
    return RedirectResponse(f"/operations/{operation.id}", status_code=303)


@router.get("/slug")
def slug_check(services: Services, request: Request, slug: str = "") -> Response:
    """A line that says whether this slug can be had, while it is being typed."""
    wanted = slug.strip()
    refusal: Refused | None = None
    with services.database.transaction() as session:
        guard.visitor(request, services, session, touch=False)
        try:
            workspaces.check_slug(session, wanted)
        except (InvalidInput, SlugTaken) as caught:
            refusal = caught
    return pages.page(
        request, "_slug.html", wanted=wanted, refusal=refusal, url=services.domain.url(wanted or "your-slug")
    )


def _create(
    session: Session, services: HubServices, who: Visitor, *, customer_id: str, slug: str, app: str
) -> Operation:
    return workspaces.create(
        session,
        actor=who.user.actor,
        slug=slug.strip(),
        customer_id=customer_id,
        domain=services.domain,
        box=services.box,
        app=app or None,
        self_service=True,
    )


def _customer(who: Visitor, asked: str) -> str:
    """One of the visitor's customers: the one asked for, or the only one."""
    if not asked and len(who.memberships) == 1:
        return who.memberships[0].customer_id
    if who.member_of(asked) is None:
        raise NotFound("there is no such customer among yours: go back to your workspaces")
    return asked


def _app_names(session: Session) -> list[str]:
    return [row["name"] for row in registered.all_newest(session)]


def _form(
    request: Request,
    services: HubServices,
    template: str,
    *,
    who: Visitor,
    apps: list[str],
    refusal: Refused | None = None,
    name: str = "",
    slug: str = "",
    customer: str = "",
) -> Response:
    status, field = 200, ""
    if refusal is not None:
        status = next(code for kind, code in STATUS.items() if isinstance(refusal, kind))
        # Which field it is about: its own word, else a taken slug, else a taken name.
        by_kind = "slug" if isinstance(refusal, SlugTaken) else "name" if isinstance(refusal, Conflict) else ""
        field = str(refusal.fields.get("field") or by_kind)
    return pages.page(
        request,
        template,
        status=status,
        who=who,
        apps=apps,
        refusal=refusal,
        field=field,
        name=name,
        slug=slug,
        customer=customer,
        url=services.domain.url("your-slug"),
        slug_max=slugs.MAX,
    )
