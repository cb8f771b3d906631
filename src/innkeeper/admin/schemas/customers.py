"""Customers, as routes/customers.py takes and sends them."""

from datetime import datetime

from pydantic import Field

from innkeeper.admin.schemas.base import Body, Page, PlanName, Sent
from innkeeper.model.entitlements import PLANS


class NewCustomer(Body):
    name: str
    contact_name: str
    contact_email: str
    plan: str = Field("free", description=f"One of {', '.join(PLANS)}")


class Customer(Sent):
    id: str
    name: str
    contact_name: str
    contact_email: str
    plan: PlanName
    created_at: datetime


class Customers(Page):
    items: list[Customer]
