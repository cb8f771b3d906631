"""Tokens, as routes/tokens.py takes and sends them."""

from datetime import datetime

from pydantic import Field

from innkeeper.admin.schemas.base import Body, Page, Sent
from innkeeper.model.token import Scope


class NewToken(Body):
    name: str
    scopes: list[str] = Field(description=f"Some of {', '.join(Scope)}; each includes those before it")
    expires_in: str = Field("90d", description="A span such as 12h or 90d, at most 366d")


class Token(Sent):
    id: str
    name: str
    scopes: list[Scope]
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


class Tokens(Page):
    items: list[Token]


class MadeToken(Token):
    token: str = Field(description="Shown in this answer only")
