"""Verbs on customers. Called by the admin API and the hub's sign-up."""

import re

from innkeeper.model import entitlements, ids
from innkeeper.model.errors import InvalidInput, NotFound
from innkeeper.model.workspace import Customer
from innkeeper.store import audit
from innkeeper.store import customers as store
from innkeeper.store.session import Session

NAME_MAX = 100
_EMAIL = re.compile(r"[^@\s<>\",;:()\[\]\\]+@[^@\s<>\",;:()\[\]\\]+")


def create(
    session: Session, *, actor: str, name: str, contact_name: str, contact_email: str, plan: str = "free"
) -> Customer:
    """A new customer. ``InvalidInput`` for a bad field, ``Conflict`` for a name that is taken."""
    name, contact_name, contact_email = name.strip(), contact_name.strip(), contact_email.strip()
    for field, value in (("name", name), ("contact_name", contact_name)):
        if not 1 <= len(value) <= NAME_MAX or not value.isprintable():
            raise InvalidInput(f"{field} has 1 to {NAME_MAX} printable characters", field=field)
    if len(contact_email) > 254 or not _EMAIL.fullmatch(contact_email):  # noqa: PLR2004 - RFC 5321
        raise InvalidInput("contact_email is not an e-mail address: write name@domain", field="contact_email")
    entitlements.plan(plan)
    customer = store.insert(
        session,
        customer_id=ids.prefixed("cus"),
        name=name,
        contact_name=contact_name,
        contact_email=contact_email,
        plan=plan,
    )
    audit.append(session, actor=actor, action="customer.create", target=customer.id, detail={"plan": plan})
    return customer


def find(session: Session, id_or_name: str) -> Customer:
    """By id or exact name; ``NotFound`` otherwise."""
    found = store.find(session, id_or_name)
    if found is None:
        raise NotFound(f"there is no customer {id_or_name!r}: see inn customer list")
    return found
