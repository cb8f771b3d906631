"""From sleep to purge: who is told, what stands in the way, and the latch on how much may go in a day."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import psycopg
import pytest

from innkeeper.control import clock, notices, purges, sweeps
from innkeeper.model.errors import BreakerOpen, Conflict, PermanentError, TemporaryError
from innkeeper.model.lifecycle import Request
from innkeeper.model.people import Role
from innkeeper.ports import Mail
from innkeeper.store import breakers, people
from innkeeper.store import notices as notice_rows
from support import house as h
from support.invariants import violations
from support.scenarios import Stage


@dataclass
class Relay:
    """A mail relay that knows some addresses, and may be away."""

    bad: set[str] = field(default_factory=set)
    away: bool = False
    taken: dict[str, Mail] = field(default_factory=dict)

    def send(self, mail: Mail) -> None:
        if self.away:
            raise TemporaryError("the relay does not answer")
        if mail.to in self.bad:
            raise PermanentError(f"no such mailbox: {mail.to}", reason="bad-address")
        self.taken.setdefault(mail.id, mail)

    @property
    def told(self) -> list[str]:
        return [mail.to for mail in self.taken.values()]


@pytest.fixture
def relay(stage: Stage) -> Relay:
    made = Relay()
    stage.house = replace(stage.house, mailer=made)
    stage.crew = replace(stage.crew, house=stage.house)
    return made


@pytest.fixture
def sleeper(stage: Stage, relay: Relay) -> str:
    stage.asleep()
    return stage.workspace.id


def member(stage: Stage, email: str) -> None:
    with stage.house.database.transaction() as session:
        user = people.upsert_user(session, issuer="test", subject=email, email=email, name=email)
        people.add_member(session, customer_id=stage.customer.id, user_id=user.id, role=Role.MEMBER)


def accepted(stage: Stage) -> dict[str, datetime]:
    workspace = stage.workspace
    with stage.house.database.transaction() as session:
        found = notice_rows.of_generation(session, workspace_id=workspace.id, generation=workspace.generation)
    return {kind.value: at for kind, at in found.items()}


def failure(stage: Stage) -> str:
    with stage.house.database.transaction() as session:
        return notice_rows.all_of(session, stage.workspace.id)[-1]["failure"]


# --- who is told ------------------------------------------------------------------------------------------------------


def test_the_contact_is_told_twice_and_then_it_goes(stage: Stage, relay: Relay, sleeper: str):
    stage.pass_time(timedelta(days=61))
    assert stage.state == "purged"
    assert relay.told == ["alice@acme.example"] * 2
    assert violations(stage.site.look(), at_rest=True) == []
    first, last = relay.taken.values()
    assert "in about seven days" in first.subject
    assert "tomorrow" in last.subject


def test_a_contact_who_cannot_be_reached_is_followed_by_the_other_members(stage: Stage, relay: Relay, sleeper: str):
    member(stage, "bob@acme.example")
    member(stage, "carol@acme.example")
    relay.bad = {"alice@acme.example", "bob@acme.example"}
    stage.pass_time(timedelta(days=61))
    assert stage.state == "purged"
    assert relay.told == ["carol@acme.example"] * 2


def test_when_nobody_can_be_reached_an_operator_is_asked_and_nothing_is_purged(
    stage: Stage, relay: Relay, sleeper: str
):
    relay.bad = {"alice@acme.example"}
    stage.pass_time(timedelta(days=80))
    assert stage.state == "deactivated"
    assert relay.told == ["operator@localhost"], "asked once, and that is not the customer's notice"
    assert accepted(stage) == {}
    assert "no such mailbox" in failure(stage)
    relay.bad.clear()  # the operator found the customer
    found = stage.site.look().now
    stage.pass_time(timedelta(hours=7))
    assert set(accepted(stage)) == {"first"}
    stage.pass_time(timedelta(days=8))
    assert stage.state == "purged"
    begun = next(row.at for row in stage.site.look().audit if row.action == "workspace.purge")
    assert begun - found >= timedelta(days=7), "seven days from the first notice that somebody took"


def test_a_relay_that_is_away_is_asked_again_and_moves_the_purge(stage: Stage, relay: Relay, sleeper: str):
    relay.away = True
    stage.pass_time(timedelta(days=62))
    assert (stage.state, relay.told) == ("deactivated", [])
    relay.away = False
    stage.pass_time(timedelta(hours=7))
    assert relay.told == ["alice@acme.example"]
    stage.pass_time(timedelta(days=5))
    assert stage.state == "deactivated"
    stage.pass_time(timedelta(days=3))
    assert (stage.state, relay.told) == ("purged", ["alice@acme.example"] * 2)


# --- what stands in the way -------------------------------------------------------------------------------------------


def test_a_hold_stops_it_at_any_time_and_its_release_lets_it_go_on(stage: Stage, relay: Relay, sleeper: str):
    stage.pass_time(timedelta(days=59, hours=12))
    assert len(relay.told) == 2
    h.ask(stage.house, "acme", Request.HOLD)
    stage.pass_time(timedelta(days=100))
    assert stage.state == "deactivated"
    with pytest.raises(Conflict, match="legal hold"):
        h.ask(stage.house, "acme", Request.PURGE)
    h.ask(stage.house, "acme", Request.RELEASE)
    stage.pass_time(timedelta(hours=1))
    assert (stage.state, len(relay.told)) == ("purged", 2)


def test_a_purge_is_refused_before_its_time_and_of_what_does_not_sleep(stage: Stage, relay: Relay):
    stage.awake()
    with pytest.raises(Conflict, match="awake: deactivate it first"):
        h.ask(stage.house, "acme", Request.PURGE)
    h.ask(stage.house, "acme", Request.DEACTIVATE)
    with pytest.raises(Conflict, match="being deactivated"):
        h.ask(stage.house, "acme", Request.PURGE)
    stage.crew.until(lambda: stage.state == "deactivated" and stage.at_rest())
    for days in (59, 0.5):
        with pytest.raises(Conflict, match="may be purged from") as refused:
            h.ask(stage.house, "acme", Request.PURGE)
        assert str(refused.value.fields["purge_at"]) > stage.site.look().now.isoformat()
        stage.pass_time(timedelta(days=days))
    assert preview(stage).would_go is False
    with psycopg.connect(stage.site.state_dsn) as state:
        state.execute("UPDATE workspaces SET deactivated_at = deactivated_at - interval '8 days'")
        state.execute("UPDATE notices SET accepted_at = accepted_at - interval '8 days'")
    assert preview(stage).would_go, "the control: with the time behind it"
    h.ask(stage.house, "acme", Request.PURGE)
    stage.crew = replace(stage.crew, ticks=("converge", "remove"))
    stage.crew.until(lambda: stage.state == "purged")
    assert violations(stage.site.look()) == []


def preview(stage: Stage) -> purges.Preview:
    with stage.house.database.transaction() as session:
        return purges.preview(session, stage.workspace)


def test_a_preview_changes_nothing_and_says_what_the_sweep_will_do(stage: Stage, relay: Relay, sleeper: str):
    before = stage.workspace
    assert "may be purged from" in preview(stage).because
    assert stage.workspace == before
    h.ask(stage.house, "acme", Request.HOLD)
    assert "legal hold" in preview(stage).because
    h.ask(stage.house, "acme", Request.RELEASE)
    stage.pass_time(timedelta(days=59, hours=12))
    with psycopg.connect(stage.site.state_dsn) as state:  # its purge falls due, and no worker has looked yet
        state.execute("UPDATE notices SET accepted_at = accepted_at - interval '1 day'")
        state.execute(
            "UPDATE workspaces SET deactivated_at = deactivated_at - interval '1 day',"
            " retention_due_at = retention_due_at - interval '1 day'"
        )
    assert preview(stage).would_go
    assert stage.workspace.id in preview(stage).destroys[0]
    assert sweeps.retain(stage.house) == 1


def test_a_wake_between_notice_and_purge_begins_everything_anew(stage: Stage, relay: Relay, sleeper: str):
    stage.pass_time(timedelta(days=59, hours=12))
    assert len(accepted(stage)) == 2
    stage.gateway.wake(sleeper)
    stage.crew.until(lambda: stage.state == "active" and stage.at_rest())
    workspace = stage.workspace
    assert (workspace.purge_at, workspace.retention_due_at, workspace.deactivated_at) == (None, None, None)
    stage.pass_time(timedelta(hours=49))
    assert (stage.state, accepted(stage)) == ("deactivated", {})
    stage.pass_time(timedelta(days=59, hours=20))
    assert (stage.state, len(relay.told)) == ("deactivated", 4)
    stage.pass_time(timedelta(hours=5))
    assert stage.state == "purged"


def test_what_is_being_purged_is_not_woken_by_anybody(stage: Stage, relay: Relay, sleeper: str):
    stage.crew.ticks = ("fold", "idle", "notices", "retain", "passage")
    with stage.house.database.transaction() as session:
        clock.advance(session, actor="test", by=timedelta(days=61))
    stage.crew.until(lambda: stage.state == "purging")
    with pytest.raises(Conflict, match="being purged"):
        h.ask(stage.house, "acme", Request.WAKE)
    stage.gateway.wake(sleeper)
    stage.crew.ticks = ("wakes", "fold", "converge", "remove", "idle", "notices", "retain", "passage")
    stage.crew.until(lambda: stage.state == "purged")
    stage.gateway.wake(sleeper)
    stage.crew.round()
    assert stage.state == "purged"
    assert violations(stage.site.look()) == []


def test_mail_that_was_accepted_after_a_wake_changes_nothing_of_the_next_sleep(
    stage: Stage, relay: Relay, sleeper: str
):
    """The worker that sent it was stopped for long between the relay's answer and its own record."""
    old = stage.workspace
    stage.gateway.wake(sleeper)
    stage.crew.until(lambda: stage.state == "active" and stage.at_rest())
    h.ask(stage.house, "acme", Request.DEACTIVATE)
    stage.crew.until(lambda: stage.state == "deactivated" and stage.at_rest())
    before = stage.workspace
    with stage.house.database.transaction() as session:
        notice_rows.intend(
            session, workspace_id=sleeper, generation=1, kind=notices.Notice.FIRST, recipient="alice@acme.example"
        )
    notices._accepted(stage.house, old, notices.Notice.FIRST)
    assert stage.workspace == before
    assert accepted(stage) == {}


# --- how much may go --------------------------------------------------------------------------------------------------


@pytest.fixture
def seven_due(stage: Stage, relay: Relay) -> Stage:
    """Rows alone: what counts here is the decision."""
    stage.asleep()
    with psycopg.connect(stage.site.state_dsn) as state:
        state.execute("SET session_replication_role = replica")
        state.execute("UPDATE workspaces SET deactivated_at = deactivated_at - interval '61 days'")
        state.execute("UPDATE workspaces SET retention_due_at = business_now() - interval '1 hour'")
        state.execute(
            "CREATE TEMPORARY TABLE more AS SELECT w.*, n FROM workspaces w, generate_series(1, 6) n;"
            "UPDATE more SET id = 'more' || n, slug = 'more' || n, operation_id = NULL; ALTER TABLE more DROP COLUMN n;"
            "INSERT INTO workspaces SELECT * FROM more"
        )
        state.execute(
            "INSERT INTO routes (workspace_id, host, status, generation, version)"
            " SELECT id, slug, 'asleep', 1, 0 FROM workspaces WHERE id LIKE 'more%'"
        )
        for kind, days in (("first", 9), ("last", 2)):
            state.execute(
                "INSERT INTO notices (workspace_id, generation, kind, recipient, accepted_at)"
                " SELECT id, generation, %s, 'x', business_now() - make_interval(days => %s) FROM workspaces",
                (kind, days),
            )
    return stage


def purging(stage: Stage) -> int:
    return sum(row["state"] == "purging" for row in stage.site.look().workspaces.values())


def latch(stage: Stage) -> str | None:
    with stage.house.database.transaction() as session:
        return breakers.status(session)["reason"]


def test_no_more_than_the_cap_goes_in_a_day_and_the_latch_holds_until_a_person_resets_it(seven_due: Stage):
    stage = seven_due
    assert sweeps.retain(stage.house) == 5
    assert purging(stage) == 5
    assert latch(stage) == "5 workspaces were purged within 24 h, the cap is 5"
    # Not by itself: neither another worker nor another day opens it.
    with psycopg.connect(stage.site.state_dsn) as state:
        state.execute("UPDATE destructive_acts SET at = at - interval '3 days'")
        state.execute("UPDATE workspaces SET retention_due_at = business_now() WHERE state = 'deactivated'")
    assert sweeps.retain(stage.house) == 0
    left = next(row["slug"] for row in stage.site.look().workspaces.values() if row["state"] == "deactivated")
    with pytest.raises(BreakerOpen, match="the cap is 5"):
        h.ask(stage.house, left, Request.PURGE)
    with stage.house.database.transaction() as session:
        assert breakers.reset(session) is not None
    assert latch(stage) is None
    with psycopg.connect(stage.site.state_dsn) as state:
        state.execute("UPDATE workspaces SET retention_due_at = business_now() WHERE state = 'deactivated'")
    assert sweeps.retain(stage.house) == 2
    assert purging(stage) == 7


def test_purges_that_a_person_asks_for_are_counted_and_capped_too(seven_due: Stage):
    stage = seven_due
    slugs = [row["slug"] for row in stage.site.look().workspaces.values()]
    for slug in slugs[:5]:
        h.ask(stage.house, slug, Request.PURGE)
    assert len(stage.site.look().acts) == 5
    with pytest.raises(BreakerOpen):
        h.ask(stage.house, slugs[5], Request.PURGE)
    assert sweeps.retain(stage.house) == 0
    assert purging(stage) == 5
    assert latch(stage) is not None


def test_the_cap_is_one_per_cent_of_a_large_fleet(seven_due: Stage):
    with psycopg.connect(seven_due.site.state_dsn) as state:
        state.execute("SET session_replication_role = replica")
        state.execute(
            "INSERT INTO workspaces (id, slug, customer_id, plan, app_id, state, connections)"
            " SELECT 'x' || n, 'x' || n, customers.id, 'free', 'app', 'deactivated', 1"
            " FROM generate_series(1, 600) n, customers"
        )
    assert sweeps.retain(seven_due.house) == 6
