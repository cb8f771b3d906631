"""What probes are answered by routes/process.py."""

from typing import Literal

from innkeeper.admin.schemas.base import Sent


class Health(Sent):
    status: Literal["ok"]
    version: str
