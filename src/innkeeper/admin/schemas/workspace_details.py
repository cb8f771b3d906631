"""What routes/workspace_details.py tells of one workspace: why, events, secrets; and what a purge would take."""

from datetime import datetime
from typing import Literal

from innkeeper.admin.schemas.base import Page, Sent
from innkeeper.model.workspace import State


class Fact(Sent):
    what: str
    text: str
    at: datetime | None
    clock: Literal["business", "real"]


class Why(Sent):
    slug: str
    state: State
    verdict: str
    business: datetime
    real: datetime
    facts: list[Fact]


class Happening(Sent):
    kind: Literal["audit", "step"]
    what: str
    actor: str | None
    text: str
    operation: str | None
    at: datetime


class Happenings(Page):
    items: list[Happening]


class Preview(Sent):
    slug: str
    would_go: bool
    because: str
    purge_at: datetime | None
    destroys: list[str]


class Previews(Page):
    items: list[Preview]


class Secret(Sent):
    name: str
    value: str


class SecretNames(Sent):
    items: list[str]
