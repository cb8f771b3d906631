"""A passage of business time comes to its end, whatever is dead; it waits where waiting helps."""

from datetime import timedelta

from innkeeper.control import clock as clock_verbs
from innkeeper.control import passage
from innkeeper.control.house import House
from innkeeper.model.lifecycle import Request
from support import house as h
from support.waiting import eventually


def begin(house: House, by: timedelta) -> str:
    with house.database.transaction() as session:
        return clock_verbs.advance(session, actor="test", by=by).id


def real_time_passes(house: House, *, minutes: int) -> None:
    """As far as the passage can tell."""
    with house.database.transaction() as session:
        session.execute(
            "UPDATE clock_passages SET created_real_at = created_real_at - make_interval(mins => %s)", (minutes,)
        )
        session.execute("UPDATE installation SET moved_real_at = moved_real_at - make_interval(mins => %s)", (minutes,))


def look(house: House) -> None:
    h.work(house)
    h.sweep(house)
    passage.step(house)


def steps(house: House, operation_id: str) -> list[str]:
    with house.database.transaction() as session:
        rows = session.execute(
            "SELECT step FROM operation_events WHERE operation_id = %s ORDER BY seq", (operation_id,)
        )
        return [row["step"] for row in rows.fetchall()]


def test_a_dead_gateway_delays_a_passage_and_does_not_stop_it(house, gateway, customer):
    created = h.create(house, "acme", customer)
    h.drive(house, until=lambda: h.operation(house, created.id).state == "done")
    gateway.silent.set()
    h.ask(house, "acme", Request.DEACTIVATE)  # nobody will acknowledge its withdrawal
    asked = begin(house, timedelta(hours=1))
    for _ in range(3):
        look(house)
    assert h.operation(house, asked).state == "running"
    assert steps(house, asked) == []
    real_time_passes(house, minutes=1)
    look(house)
    assert h.operation(house, asked).state == "running"
    assert steps(house, asked) == ["wait"]  # and says what for
    for _ in range(2):
        real_time_passes(house, minutes=10)
        eventually(lambda: look(house) or steps(house, asked)[-1] != "wait", timeout=10)
    assert h.operation(house, asked).state == "done"
    assert h.state_of(house, "acme") == "deactivating"
