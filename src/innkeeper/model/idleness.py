"""May an awake workspace be put to sleep for want of traffic? A decision from counters, never from their absence.

| what is known                                              | verdict                    |
|------------------------------------------------------------|----------------------------|
| clock in doubt                                             | awake: clock-in-doubt      |
| a stream is open at some gateway                           | awake: open-stream         |
| traffic (or activation) less than 48 h ago                 | awake: traffic             |
| no gateway registered, or one not read since (60 s, moved) | awake: unknown             |
| every gateway read, nothing counted in the window          | idle                       |

A gateway's counters are cumulative over one boot, so two readings cover all between them; a boot that ended without
handing in its counters is folded in as traffic at its end (store/traffic.py), so no gap is left to judge here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from innkeeper.model.moment import Moment

WINDOW = timedelta(hours=48)
"""Business time without traffic after which a workspace sleeps (the product's promise)."""

FRESH = timedelta(seconds=60)
"""Real time: a gateway's reading older than this says nothing about now (DESIGN.md section 5)."""

RECHECK = timedelta(minutes=5)
"""Business time until an unknown or open verdict is looked at again (real traffic re-schedules by itself)."""


@dataclass(frozen=True, slots=True)
class GatewayReading:
    """The newest reading of one registered gateway boot; ``None``: registered, never read."""

    gateway_id: str
    read_real_at: datetime | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one awake workspace. ``moved_real_at``: when business time last jumped."""

    activated_at: datetime
    last_traffic_at: datetime | None
    open_streams: int
    readings: Sequence[GatewayReading]
    moved_real_at: datetime
    clock_in_doubt: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """``idle`` or why not; ``judge_again_at`` in business time."""

    idle: bool
    reason: str
    explanation: str
    judge_again_at: datetime


def sleeps_at(*, activated_at: datetime, last_traffic_at: datetime | None) -> datetime:
    """When it falls idle if nothing more comes: 48 h after the later of activation and last traffic."""
    return max(activated_at, last_traffic_at or activated_at) + WINDOW


def judge(*, facts: Facts, now: Moment) -> Verdict:
    """The truth table above, top to bottom."""
    again = now.business + RECHECK
    if facts.clock_in_doubt:
        return _awake("clock-in-doubt", "the clock is in doubt, so nothing sleeps: see inn clock show", again)
    if facts.open_streams:
        return _awake("open-stream", f"{facts.open_streams} connections are open", again)
    due = sleeps_at(activated_at=facts.activated_at, last_traffic_at=facts.last_traffic_at)
    if now.business < due:
        return _awake(
            "traffic",
            f"it had traffic or was activated less than 48 h ago: sleeps {due:%Y-%m-%d %H:%M} UTC",
            due,
        )
    stale = unknown_gateways(readings=facts.readings, moved_real_at=facts.moved_real_at, now=now)
    if not facts.readings:
        return _awake("unknown", "no gateway is registered, so its traffic is unknown", again)
    if stale:
        names = ", ".join(stale)
        return _awake("unknown", f"its traffic is unknown: gateway {names} has not been read for 60 s", again)
    explanation = f"nothing was counted for 48 h at {len(facts.readings)} gateways"
    return Verdict(idle=True, reason="idle", explanation=explanation, judge_again_at=now.business)


def unknown_gateways(*, readings: Sequence[GatewayReading], moved_real_at: datetime, now: Moment) -> list[str]:
    """Gateways whose newest reading is missing, older than 60 s, or from before business time last moved."""
    return [
        reading.gateway_id
        for reading in readings
        if reading.read_real_at is None
        or reading.read_real_at < moved_real_at
        or now.real - reading.read_real_at > FRESH
    ]


def _awake(reason: str, explanation: str, again: datetime) -> Verdict:
    return Verdict(idle=False, reason=reason, explanation=explanation, judge_again_at=again)
