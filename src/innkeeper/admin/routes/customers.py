"""/v1/customers."""

from starlette.responses import Response

from innkeeper.admin import routing, views
from innkeeper.admin.call import Reply, TheCall
from innkeeper.admin.paging import PageSize, PageToken, page
from innkeeper.admin.schemas import customers as s
from innkeeper.control import customers as verbs
from innkeeper.model.token import Scope
from innkeeper.store import customers as store
from innkeeper.store.session import Session

router = routing.router("customers")


def create_customer(call: TheCall, body: s.NewCustomer) -> Response:
    """Register a customer and its contact."""

    def effect(session: Session, actor: str) -> Reply:
        made = verbs.create(
            session,
            actor=actor,
            name=body.name,
            contact_name=body.contact_name,
            contact_email=body.contact_email,
            plan=body.plan,
        )
        return Reply(views.customer(made), 201, {"Location": f"/v1/customers/{made.id}"})

    return call.once(effect)


def list_customers(call: TheCall, page_size: PageSize = 0, page_token: PageToken = "") -> Response:
    """All customers, in order of id."""
    return call.read(
        lambda session: page(
            session,
            call,
            size=page_size,
            token=page_token,
            fetch=lambda after, limit: store.page(session, after=after[0] if after else "", limit=limit),
            place=lambda row: [row.id],
            show=views.customer,
        )
    )


def get_customer(call: TheCall, customer: str) -> Response:
    """One customer, by id or exact name."""
    return call.read(lambda session: Reply(views.customer(verbs.find(session, customer))))


routing.add(router, "POST", "/customers", create_customer, scope=Scope.OPERATE, answer=s.Customer, status=201)
routing.add(router, "GET", "/customers", list_customers, scope=Scope.READ, answer=s.Customers)
routing.add(router, "GET", "/customers/{customer}", get_customer, scope=Scope.READ, answer=s.Customer)
