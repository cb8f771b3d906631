"""Keys and what is sealed under them, as routes/secrets.py sends it."""

from pydantic import Field

from innkeeper.admin.schemas.base import Sent


class KeyUse(Sent):
    key: str
    present: bool = Field(description="It is in the key file")
    sealing: bool = Field(description="What is sealed now is sealed under it")
    secrets: int
    activation_keys: int
    kept_answers: int


class KeyUses(Sent):
    items: list[KeyUse]
