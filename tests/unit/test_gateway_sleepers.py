"""Who waits at a gateway, and what is remembered of hosts that are not awake."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
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


PROBED = {"ignore_paths": ["/healthz"], "probe_agents": ["kube-probe"]}

TABLE = [
    # status, refusal, what a visitor is told, what a probe is told
    ("purged", None, pages.PURGED, pages.PURGED),
    ("refused", "suspended", pages.SUSPENDED, pages.SUSPENDED),
    ("refused", "purging", pages.PURGING, pages.PURGING),
    ("refused", "no-capacity", pages.NOT_WAKEABLE, pages.NOT_WAKEABLE),
    ("refused", "failed", pages.NOT_WAKEABLE, pages.NOT_WAKEABLE),
    ("refused", "a reason of a later version", pages.NOT_WAKEABLE, pages.NOT_WAKEABLE),
    ("asleep", None, None, sleepers.Asleep()),
]


@pytest.mark.parametrize(("status", "refusal", "visitor", "probe"), TABLE)
def test_who_is_told_what(status: str, refusal: str | None, visitor: object, probe: object):
    found = replace(row(status), refusal=refusal, idle=PROBED)
    assert sleepers._decide(found, Ask(HOST)) == visitor
    assert sleepers._decide(found, Ask(HOST, path="/healthz")) == probe
    assert sleepers._decide(found, Ask(HOST, agent="kube-probe/1.37")) == probe


def test_a_row_says_when_to_come_again():
    told = sleepers._decide(replace(row("refused"), refusal="failed", retry_after=7), Ask(HOST))
    assert isinstance(told, pages.Refusal)
    assert told.retry_after == 7


def test_whoever_waits_is_let_go_when_the_gateway_leaves(settings: GatewaySettings):
    async def live() -> Any:
        asked = Sleepers(settings, cast("Database", None))
        asked._learn(HOST, row("asleep"))
        asked._asked[HOST] = time.monotonic() + 60  # somebody has asked for the wake already
        held = [asyncio.create_task(asked.answer(Ask(HOST))), asyncio.create_task(asked.watch(HOST, 30))]
        await asyncio.sleep(0)
        assert (list(asked._waiting), list(asked._watching)) == ([HOST], [HOST])
        asked.leave()
        return [await task for task in held]

    assert asyncio.run(live()) == [pages.LEAVING, "asleep"]  # its page asks the next gateway


def test_a_route_lets_everybody_look_again_who_waits_for_that_host_and_nobody_else(settings: GatewaySettings):
    other = "other.apps.localhost"

    async def live() -> Any:
        asked = Sleepers(settings, cast("Database", None))
        for host in (HOST, other):
            asked._learn(host, replace(row("asleep"), host=host))
            asked._asked[host] = time.monotonic() + 60
        held = [asyncio.create_task(asked.answer(Ask(host))) for host in (HOST, HOST, other)]
        page = asyncio.create_task(asked.watch(HOST, 30))
        await asyncio.sleep(0)
        assert {host: len(found) for host, found in asked._waiting.items()} == {HOST: 2, other: 1}
        asked.awake(HOST)
        done = [await held[0], await held[1], await page]
        waits = not held[2].done()
        held[2].cancel()
        return done, waits

    done, waits = asyncio.run(live())
    assert (done, waits) == ([sleepers.LookAgain(), sleepers.LookAgain(), "awake"], True)


@pytest.mark.parametrize(
    ("known", "state"), [("purged", "refused"), ("refused", "refused"), ("asleep", "asleep"), ("none", "refused")]
)
def test_a_waking_page_is_told_when_there_is_nothing_to_wait_for(settings: GatewaySettings, known: str, state: str):
    async def live() -> str:
        asked = Sleepers(settings, cast("Database", None))
        asked._learn(HOST, None if known == "none" else row(known))
        return await asked.watch(HOST, 0)

    assert asyncio.run(live()) == state


def test_what_no_host_can_be_called_is_never_looked_up(settings: GatewaySettings):
    async def live() -> Any:
        asked = Sleepers(settings, cast("Database", None))
        return [await asked.answer(Ask("no_host!")), await asked.watch("no_host!", 0), asked._wanted, asked._known]

    assert asyncio.run(live()) == [pages.UNKNOWN, "refused", {}, {}]


def test_no_more_hosts_are_remembered_than_there_is_room_for(
    settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sleepers, "CACHED_MOST", 3)
    asked = Sleepers(settings, cast("Database", None))
    for number in range(5):
        asked._learn(f"h{number}.apps.localhost", None)
    assert list(asked._known) == ["h2.apps.localhost", "h3.apps.localhost", "h4.apps.localhost"]
