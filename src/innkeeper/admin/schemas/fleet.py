"""Gateways, breaker, clock and drift, as routes/fleet.py takes and sends them."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from innkeeper.admin.schemas.base import Body, Page, Sent


class Gateway(Sent):
    id: str
    boot: str
    registered_at: datetime
    read_at: datetime | None
    acknowledged_version: int | None
    current_version: int


class Gateways(Page):
    items: list[Gateway]


class Removed(Sent):
    id: str
    boots: int


class SleepPace(Sent):
    paused: bool
    paused_since: datetime | None
    resumes_at: datetime | None
    recent: int = Field(description="Fallen asleep by themselves within the hour")
    cap: int


class Breaker(Sent):
    open: bool
    opened_at: datetime | None
    reason: str | None
    recent: int
    cap: int
    reset_at: datetime | None
    sleeps: SleepPace


class Passage(Body):
    by: str = Field(description="A span such as 49h or 61d")


class PassageUnderWay(Sent):
    operation: str
    target: datetime


class Clock(Sent):
    business: datetime
    real: datetime
    offset_seconds: float
    movable: bool
    in_doubt_since: datetime | None
    doubt: str | None
    passage: PassageUnderWay | None


class Finding(Sent):
    kind: Literal["orphan", "missing", "unreadable"]
    where: str
    what: str
    explanation: str


class Drift(Sent):
    items: list[Finding]


class MendedFinding(Finding):
    outcome: Literal["mended", "left"]
    did: str


class MendedDrift(Sent):
    items: list[MendedFinding]
