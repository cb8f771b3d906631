"""Operations and their steps, as routes/operations.py sends them and every verb answers."""

from datetime import datetime
from typing import Literal

from innkeeper.admin.schemas.base import Page, Sent


class Operation(Sent):
    id: str
    kind: str
    state: Literal["running", "done", "failed", "cancelled"]
    workspace: str | None
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    error: dict[str, object] | None
    detail: dict[str, object]


class Operations(Page):
    items: list[Operation]


class Step(Sent):
    seq: int
    at: datetime
    step: str
    message: str


class OperationWithSteps(Operation):
    steps: list[Step]
