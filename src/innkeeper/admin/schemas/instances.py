"""Instances, as routes/instances.py takes and sends them."""

from typing import Literal

from pydantic import Field

from innkeeper.admin.schemas.base import Body, Page, Sent


class NewInstance(Body):
    name: str
    host: str
    port: int
    admin_secret: str = Field(description="Where the administrator's connection string is: file:/PATH or env:NAME")
    database_capacity: int | None = None
    connection_capacity: int | None = None
    ssl_mode: str = Field(
        "",
        description="How applications connect, as libpq's sslmode: disable, require or verify-full;"
        " empty: require, unless it is on this machine",
    )


class Instance(Sent):
    id: str
    name: str
    kind: Literal["shared", "dedicated"]
    host: str
    port: int
    state: Literal["open", "cordoned", "draining"]
    databases: int
    database_capacity: int
    spares: int = Field(description="Spare databases that are ready for the next workspaces, not among `databases`")
    connections: int
    connection_capacity: int
    ssl_mode: Literal["", "disable", "require", "verify-full"]


class Instances(Page):
    items: list[Instance]
