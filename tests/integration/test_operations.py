"""Operations: followed over server-sent events as they happen, resumed where they broke, cancelled while it is safe."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx2
import psycopg
import pytest

from innkeeper.store import activations, operations
from support.admin import Admin, Served
from support.cli import Run
from support.state import Dsns
from support.waiting import PATIENCE, eventually


def events(served: Served, operation_id: str, **headers: str) -> Iterator[tuple[str, str, Any]]:
    given = served.admin.headers("read") | {name.replace("_", "-"): value for name, value in headers.items()}
    with (
        httpx2.Client(base_url=served.url, timeout=PATIENCE) as client,
        client.stream("GET", f"/v1/operations/{operation_id}/events", headers=given) as response,
    ):
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in response.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif "data" in event:
                yield event["event"], event["id"], json.loads(event["data"])
                event = {}


def step(admin: Admin, operation_id: str, message: str, *, end: bool = False) -> None:
    with admin.database.transaction() as session:
        operations.event(session, operation_id, step="start", message=message)
        if end:
            operations.finish(session, operation_id)


def test_an_operation_is_followed_live_to_its_end(served_admin: Served):
    operation = served_admin.admin.workspace("acme")
    stream = events(served_admin, operation.id)
    kind, number, data = next(stream)
    assert (kind, number, data["message"]) == ("step", "1", "A place on instance pool is reserved")
    step(served_admin.admin, operation.id, "The application is starting")
    assert next(stream)[2]["message"] == "The application is starting"
    step(served_admin.admin, operation.id, "Open", end=True)
    assert next(stream)[2]["message"] == "Open"
    kind, number, data = next(stream)
    assert (kind, number, data["state"]) == ("end", "3", "done")
    assert list(stream) == []  # the server ends it


def test_a_broken_stream_is_resumed_behind_the_last_event(served_admin: Served):
    operation = served_admin.admin.workspace("acme")
    step(served_admin.admin, operation.id, "two")
    step(served_admin.admin, operation.id, "three", end=True)
    assert [number for _, number, _ in events(served_admin, operation.id)] == ["1", "2", "3", "3"]
    assert [number for _, number, _ in events(served_admin, operation.id, last_event_id="2")] == ["3", "3"]
    assert [kind for kind, _, _ in events(served_admin, operation.id, last_event_id="3")] == ["end"]
    for bad in ("x", "-1", "1.5", "9" * 20):
        answer = served_admin.admin.get(f"/v1/operations/{operation.id}/events", last_event_id=bad)
        assert answer.status_code == 400


def test_many_followers_share_one_connection_that_listens(served_admin: Served, state_dsns: Dsns):
    admin = served_admin.admin
    operation = admin.workspace("acme")
    ends: list[str] = []

    def follow() -> None:
        ends.extend(kind for kind, _, _ in events(served_admin, operation.id) if kind == "end")

    threads = [threading.Thread(target=follow) for _ in range(12)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(admin.app.state.streams._wakes) == 12, describe="all twelve follow")
    assert admin.services.signals.listening(PATIENCE)
    with psycopg.connect(state_dsns.superuser) as connection:
        listeners = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        ).fetchone()
    step(admin, operation.id, "Open", end=True)
    for thread in threads:
        thread.join()
    assert ends == ["end"] * 12
    assert listeners == (1,)
    assert admin.services.signals._waiting == {}


def test_followers_survive_the_loss_of_the_listening_connection(served_admin: Served, state_dsns: Dsns):
    """What was said while nobody listened is read when the connection is back."""
    admin = served_admin.admin
    operation = admin.workspace("acme")
    stream = events(served_admin, operation.id)
    next(stream)
    assert admin.services.signals.listening(PATIENCE)
    with psycopg.connect(state_dsns.superuser, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        ).fetchone()
        assert ended == (1,)
        connection.execute(
            "INSERT INTO operation_events (operation_id, seq, step, message) VALUES (%s, 2, 'quiet', 'Unheard')",
            (operation.id,),
        )
    assert next(stream)[2]["message"] == "Unheard"
    step(admin, operation.id, "Open", end=True)
    assert [kind for kind, _, _ in stream] == ["step", "end"]


def test_a_server_that_stops_ends_its_streams(served_admin: Served):
    operation = served_admin.admin.workspace("acme")
    stream = events(served_admin, operation.id)
    next(stream)
    served_admin.admin.app.state.streams.close()
    assert list(stream) == []


def test_who_may_not_follow_gets_a_problem_and_no_stream(served_admin: Served):
    operation = served_admin.admin.workspace("acme")
    path = f"/v1/operations/{operation.id}/events"
    assert served_admin.admin.get(path, scope=None).status_code == 401
    assert served_admin.admin.get("/v1/operations/none/events").status_code == 404


# --- cancelling ------------------------------------------------------------------------------------------------------


def cancel(admin: Admin, operation_id: str) -> Any:
    return admin.post(f"/v1/operations/{operation_id}/cancel", scope="operate")


def awake(admin: Admin, phase: str) -> str:
    """A workspace whose deactivation was asked for and has come as far as ``phase``; the operation."""
    admin.workspace("acme")
    now = datetime.now(UTC)
    admin.set("acme", state="active", activated_at=now, operation_id=None)
    operation = admin.post("/v1/workspaces/acme/deactivate").json()["id"]
    with admin.database.transaction() as session:
        session.execute("UPDATE activations SET phase = %s, address = '127.0.0.1:1'", (phase,))
    return operation


def test_cancelling_a_creation_asks_for_deactivation(furnished: Admin):
    operation = furnished.workspace("acme")
    answer = cancel(furnished, operation.id)
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    shown = furnished.get("/v1/workspaces/acme").json()
    assert shown["state"] == "deactivating"
    assert answer.headers["location"] == f"/v1/operations/{shown['operation']}"
    assert furnished.audit("operation.cancel")[0]["target"] == operation.id
    again = cancel(furnished, operation.id)
    assert (again.status_code, "has ended (cancelled)" in again.json()["detail"]) == (409, True)


@pytest.mark.parametrize("phase", ["ready", "stopping"])
def test_cancelling_a_deactivation_turns_it_back_as_traffic_would(furnished: Admin, phase: str):
    operation = awake(furnished, phase)
    answer = cancel(furnished, operation)
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/operations/{operation}")
    with furnished.database.transaction() as session:
        row = session.execute("SELECT ordered, last_traffic_at > decided_at AS traffic, due_real_at FROM workspaces")
        found = row.fetchone()
    assert found is not None
    assert (found["ordered"], found["traffic"], found["due_real_at"] is not None) == (False, True, True)


@pytest.mark.parametrize("phase", ["starting", "ended"])
def test_a_deactivation_beyond_return_is_not_cancelled(furnished: Admin, phase: str):
    operation = awake(furnished, phase)
    answer = cancel(furnished, operation)
    assert (answer.status_code, "wake it when it is deactivated" in answer.json()["detail"]) == (409, True)
    with furnished.database.transaction() as session:
        assert session.execute("SELECT ordered FROM workspaces").fetchone() == {"ordered": True}


def test_a_purge_a_suspension_and_a_passage_are_not_cancelled(furnished: Admin):
    operation = awake(furnished, "ready")
    furnished.set("acme", suspended=True)
    assert "suspended" in cancel(furnished, operation).json()["detail"]
    furnished.set("acme", state="purging", suspended=False)
    refused = cancel(furnished, operation)
    assert (refused.status_code, "purge" in refused.json()["detail"]) == (409, True)
    passage = furnished.post("/v1/clock/advance", {"by": "1h"}).json()["id"]
    assert cancel(furnished, passage).status_code == 409
    assert cancel(furnished, "none").status_code == 404
    assert furnished.audit("operation.cancel") == []


def test_an_operation_that_was_overtaken_is_not_cancelled(furnished: Admin):
    first = awake(furnished, "ready")
    furnished.set("acme", operation_id=None)
    answer = cancel(furnished, first)
    assert (answer.status_code, "any more" in answer.json()["detail"]) == (409, True)
    with furnished.database.transaction() as session:
        assert len(activations.living(session)) == 1


@pytest.mark.parametrize(("end", "code"), [("cancelled", 0), ("done", 1)])
def test_waiting_for_a_deactivation_to_turn_back(inn: Run, served_admin: Served, end: str, code: int):
    """``inn operation cancel --wait``: that it is cancelled is what was wanted."""
    admin = served_admin.admin
    operation = awake(admin, "ready")
    with ThreadPoolExecutor(1) as threads:
        command = threads.submit(inn, "operation", "cancel", operation, "--wait")
        eventually(lambda: admin.app.state.streams._wakes, describe=lambda: f"it is followed: {command}")
        with admin.database.transaction() as session:
            operations.finish(session, operation, state=end)
        ran = command.result()
    assert ran.code == code, ran
    if end == "cancelled":
        assert ran.out == f"operation {operation} is cancelled\n"
    else:
        assert "the operation is done" in ran.err.splitlines()[-1]


def test_waiting_for_a_creation_to_turn_back(inn: Run, served_admin: Served):
    """What is waited for is that the workspace sleeps."""
    admin = served_admin.admin
    operation = admin.workspace("acme").id
    with ThreadPoolExecutor(1) as threads:
        command = threads.submit(inn, "operation", "cancel", operation, "--wait", "-o", "json")
        eventually(lambda: admin.app.state.streams._wakes, describe=lambda: f"it is followed: {command}")
        back = admin.get("/v1/workspaces/acme").json()["operation"]
        assert not command.done()
        with admin.database.transaction() as session:
            operations.finish(session, back)
        ran = command.result()
    assert (ran.code, json.loads(ran.out)["state"]) == (0, "cancelled"), ran
