"""Apps, as routes/apps.py sends them. A spec is taken as YAML, and read by control/appspec.py."""

from datetime import datetime

from pydantic import Field

from innkeeper.admin.schemas.base import Page, Sent


class App(Sent):
    id: str
    name: str
    version: str
    created_at: datetime


class Apps(Page):
    items: list[App]


class AppWithSpec(App):
    spec: dict[str, object]
    warnings: list[str] = Field(description="What is accepted and may surprise")
