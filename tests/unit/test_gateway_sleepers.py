"""Who waits at a gateway, and what is remembered of hosts that are not awake."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from innkeeper.gateway import pages, sleepers, statements
from innkeeper.gateway.database import Database
from innkeeper.gateway.settings import GatewaySettings
from innkeeper.gateway.sleepers import Ask, Sleepers
from innkeeper.gateway.statements import RouteRow, Snapshot

HOST = "gone.apps.localhost"


def row(status: str) -> RouteRow:
    return RouteRow("gone", HOST, status, 1, None, None, 7)


def answered(settings: GatewaySettings, *, remembered: RouteRow | None, ask: Ask) -> Any:
    """The answer to one request for a host that was known once, too long ago to be believed."""

    async def live() -> Any:
        asked = Sleepers(settings, cast("Database", None))
        if remembered is not None:
            asked._learn(HOST, remembered)
            asked._known[HOST] = sleepers._Known(remembered, until=0.0)
        looking = asyncio.create_task(asked.run())
        try:
            return await asked.answer(ask)
        finally:
            looking.cancel()

    return asyncio.run(live())


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(
        directory=tmp_path,
        gateway_id="test",
        listen=("127.0.0.1:1",),
        parent="apps.localhost",
        database="",
        probe_secret="a-secret-of-the-tests",
    )


@pytest.mark.parametrize("remembered", [None, row("purged"), row("asleep")], ids=["never", "the-same", "another"])
def test_what_was_forgotten_is_asked_for_and_answered_at_once(
    settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch, remembered: RouteRow | None
):
    async def look(database: Database, wanted: Mapping[str, bool], gateway_id: str) -> Snapshot:
        return Snapshot(7, [row("purged")])

    monkeypatch.setattr(statements, "look", look)
    assert answered(settings, remembered=remembered, ask=Ask(HOST, left=2.0)) == pages.PURGED
