"""What all bodies and answers have in common, and the problem that every refusal is."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from innkeeper.model.entitlements import PLANS

PlanName = Literal["free", "pro", "enterprise"]
assert set(PLANS) == {"free", "pro", "enterprise"}  # noqa: S101 - holds the literal above to the table


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Sent(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="forbid")


class Page(Sent):
    """One of several; each resource says of what."""

    next_page_token: str | None = Field(description="null: this was the last page")


class Problem(BaseModel):
    """RFC 9457. ``type`` ends in a stable slug; ``detail`` is one line that says what to do."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None


class Reason(Body):
    reason: str | None = Field(None, max_length=500, description="Why; kept in the audit trail: no personal data")
