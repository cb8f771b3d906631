"""The audit chain's rows, and the anchors that it is held against, for routes/audit.py."""

from datetime import datetime

from pydantic import Field

from innkeeper.admin.schemas.base import Body, Page, Sent


class Anchor(Body):
    seq: int = Field(ge=0, le=2**62)
    hash: str = Field(pattern="^[0-9a-f]{64}$", description="Hexadecimal")


class Anchors(Body):
    anchors: list[Anchor] = Field(max_length=5000, description="Heads that were kept outside the database")


class AuditRow(Sent):
    seq: int
    at: datetime
    real_at: datetime
    actor: str
    action: str
    target: str
    detail: str
    previous: str
    hash: str


class AuditRows(Page):
    items: list[AuditRow]
