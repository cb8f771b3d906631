"""Who is asking, and may they. Called at the top of every page's transaction; refusals leave as model errors.

| request                      | what is checked                                                        |
|------------------------------|------------------------------------------------------------------------|
| any page behind the sign-in  | a live session, else to the sign-in and back                           |
| every POST                   | the Origin header is this hub's                                        |
| POST behind the sign-in      | and the session's CSRF token is in the form or the header              |
| anything of one workspace    | the workspace's customer is one of the visitor's; else it is not found |
"""

import hmac
import re
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from innkeeper.hub import cookies
from innkeeper.hub.services import HubServices
from innkeeper.model import slugs
from innkeeper.model.errors import Forbidden, InvalidInput, NotFound
from innkeeper.model.people import Membership, Role, User
from innkeeper.model.workspace import Operation, Workspace
from innkeeper.store import operations, people, workspaces
from innkeeper.store.session import Session

CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"

_OPERATION_ID = re.compile(r"op-[0-9a-f]{20}")
_RETURN_TO = re.compile(r"/(?![/\\])[A-Za-z0-9/_.~?=&%-]{0,500}")


def _services(request: Request) -> HubServices:
    return request.app.state.services


Services = Annotated[HubServices, Depends(_services)]
"""A route's parameter: the services that create_hub() was given."""


class SignInNeededError(Exception):
    """There is no live session: app.py sends the browser to the sign-in, and back to ``return_to`` afterwards."""

    def __init__(self, return_to: str) -> None:
        super().__init__("sign in first")
        self.return_to = return_to


class NotYours(NotFound):
    """It exists and belongs to another customer: told as not found, recorded as a refusal."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A signed-in person and the customers they belong to."""

    user: User
    csrf: str = field(repr=False)
    memberships: tuple[Membership, ...]

    def member_of(self, customer_id: str) -> Membership | None:
        """The visitor's place in that customer."""
        return next((found for found in self.memberships if found.customer_id == customer_id), None)


def check_origin(request: Request, services: HubServices) -> None:
    """``Forbidden`` unless the form was sent from a page of this hub."""
    sent = request.headers.getlist("origin")
    if sent != [services.settings.origin]:
        raise Forbidden("this form was not sent from this site: open the page here and try again")


def visitor(request: Request, services: HubServices, session: Session, *, touch: bool = True) -> Visitor:
    """Who is signed in. ``touch`` False for what pages ask by themselves: that must not keep a session alive."""
    value = cookies.read(request, services.settings, cookies.SESSION)
    found = None if value is None else people.find_session(session, value, touch=touch)
    if found is None:
        raise SignInNeededError(safe_return_to(_address(request)) if request.method == "GET" else "/")
    request.state.actor = found.user.actor
    return Visitor(found.user, found.csrf, tuple(people.memberships(session, found.user.id)))


def posting_visitor(request: Request, services: HubServices, session: Session, csrf: str) -> Visitor:
    """Who sends this form. ``Forbidden`` (and recorded: the person is known) from elsewhere or without the token."""
    found = visitor(request, services, session)
    check_origin(request, services)
    token = request.headers.get(CSRF_HEADER) or csrf
    if not hmac.compare_digest(token.encode(), found.csrf.encode()):
        raise Forbidden("this form has expired: open the page again and try once more")
    return found


def workspace_of(session: Session, who: Visitor, slug: str) -> tuple[Workspace, Membership]:
    """The visitor's workspace of that slug; ``NotFound`` for none, and for another customer's."""
    missing = "there is no such workspace among yours: go back to your workspaces"
    try:
        slugs.check(slug)
    except InvalidInput as error:
        raise NotFound(missing) from error
    found = workspaces.by_slug(session, slug)
    if found is None:
        raise NotFound(missing)
    membership = who.member_of(found.customer_id)
    if membership is None:
        raise NotYours(missing)
    return found, membership


def operation_of(session: Session, who: Visitor, operation_id: str) -> tuple[Operation, Workspace]:
    """The visitor's operation of that id and its workspace; ``NotFound`` for none, and for another customer's."""
    missing = "there is no such operation among yours: go back to your workspaces"
    found = operations.by_id(session, operation_id) if _OPERATION_ID.fullmatch(operation_id) else None
    workspace = None if found is None or found.workspace_id is None else workspaces.by_id(session, found.workspace_id)
    if found is None or workspace is None:
        raise NotFound(missing)
    if who.member_of(workspace.customer_id) is None:
        raise NotYours(missing)
    return found, workspace


def owner_only(membership: Membership, what: str) -> None:
    """``Forbidden`` for members who are not owners."""
    if membership.role is not Role.OWNER:
        raise Forbidden(f"only an owner of {membership.customer_name} may {what}: ask one")


def manager_only(membership: Membership, what: str) -> None:
    """``Forbidden`` for members who neither own nor administer."""
    if membership.role is Role.MEMBER:
        raise Forbidden(f"only an owner or admin of {membership.customer_name} may {what}: ask one")


def safe_return_to(value: str) -> str:
    r"""A path on this hub, never another site: `//evil`, `/\evil` and whole URLs become the front page."""
    return value if _RETURN_TO.fullmatch(value) and not value.startswith("/auth/") else "/"


def _address(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")
