"""Workspaces, as routes/workspaces.py takes and sends them."""

from datetime import datetime

from pydantic import Field

from innkeeper.admin.schemas.base import Body, Page, PlanName, Sent
from innkeeper.model.workspace import State


class NewWorkspace(Body):
    slug: str = Field(description="3 to 40 of a-z, 0-9 and single hyphens, beginning with a letter")
    customer: str = Field(description="Id or exact name")
    plan: str | None = Field(None, description="The customer's own unless said")
    app: str | None = Field(None, description="Name of a registered app; needed only when there are several")


class WorkspaceProblem(Sent):
    step: str
    reason: str
    message: str
    attempts: int
    permanent: bool
    next_try_at: datetime | None


class Workspace(Sent):
    id: str
    slug: str
    url: str
    customer: str
    plan: PlanName
    app: str
    app_version: str
    state: State
    generation: int
    created_at: datetime
    last_traffic_at: datetime | None
    deactivated_at: datetime | None
    purge_at: datetime | None
    instance: str | None
    cluster: str | None
    hold: bool
    suspended: bool
    problem: WorkspaceProblem | None
    operation: str | None
    pid: int | None = Field(None, description="Local mode only")


class Workspaces(Page):
    items: list[Workspace]
