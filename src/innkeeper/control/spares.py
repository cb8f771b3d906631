"""Keeps spare databases on every instance (model/spares.py says how many), so that a sign-up finds one. For the worker.

Any number of workers may: who decides for an instance does so alone, and one spare of it at a time is made or dropped,
behind a fence. Each is made and dropped by the same calls as a workspace's database, so whoever dies is followed by one
who goes on from the row. Nothing is begun on an instance while a workspace waits for its database there. The
transaction that creates a workspace hands a spare out (workspaces.py), its step create-database takes it (outside.py).
"""

from collections.abc import Callable

import structlog

from innkeeper.control.house import House
from innkeeper.model import backoff, ids
from innkeeper.model import spares as model
from innkeeper.model.errors import PermanentError, StaleFenceError, TemporaryError
from innkeeper.model.spares import Spare, SpareState
from innkeeper.model.workspace import Instance, TenantDatabase
from innkeeper.store import instances, spares
from innkeeper.store.session import Session

log = structlog.get_logger()


def tend(house: House, *, wanted: int, stopping: Callable[[], bool] = lambda: False) -> None:
    """Make and drop until every instance has what it is to have, somebody waits for it, or it fails."""
    with house.database.transaction() as session:
        registered = [instance.id for instance in instances.everyone(session)]
    for instance_id in registered:
        while not stopping() and _one(house, instance_id, wanted=wanted):
            pass


def _one(house: House, instance_id: str, *, wanted: int) -> bool:
    """One spare further; False: nothing to do there now."""
    with house.database.transaction() as session:
        instance, spare = _take_up(session, instance_id, wanted=wanted)
    if instance is None or spare is None:
        return False
    try:
        _work(house, instance, spare)
    except StaleFenceError:
        return False  # it took so long that another worker has it
    except (TemporaryError, PermanentError) as error:
        log.warning("spare.failed", instance=instance.name, spare=spare.id, doing=spare.state, error=str(error))
        with house.database.transaction() as session:
            _failed(session, spare, error)
        return False
    with house.database.transaction() as session:
        spares.finish(session, spare)
    log.info("spare.made" if spare.state is SpareState.MAKING else "spare.dropped", instance=instance.name)
    return True


def _take_up(session: Session, instance_id: str, *, wanted: int) -> tuple[Instance | None, Spare | None]:
    """What is to be done next there, taken into work by this transaction."""
    instance = instances.find(session, instance_id)
    if instance is None or not spares.alone(session, instance_id) or spares.awaited(session, instance_id):
        return None, None
    databases, _ = instances.reserved(session, instance_id)
    room = model.room(instance=instance, databases=databases, wanted=wanted)
    task = model.next_task(room=room, spares=spares.of(session, instance_id))
    if task is None:
        return None, None
    if task.spare is None:
        return instance, spares.begin(session, spare_id=ids.spare_id(), instance_id=instance_id)
    if not task.spare.free:
        return None, None
    return instance, spares.claim(session, task.spare, task.state)


def _work(house: House, instance: Instance, spare: Spare) -> None:
    # The limit on connections is set with the login, by the workspace that gets it.
    server, database = house.servers.server(instance), TenantDatabase.of(spare.id, connections=0)
    if spare.state is SpareState.MAKING:
        server.ensure_database(database, fence=spare.fence)
        return
    server.drop_database(database, fence=spare.fence)
    if not server.observe(database).absent:
        raise TemporaryError(f"spare database {database.name} or its roles are still there after the drop")


def _failed(session: Session, spare: Spare, error: TemporaryError | PermanentError) -> None:
    """Tried again later; what can never be made is dropped, and another is begun."""
    if isinstance(error, PermanentError):
        spares.fail(session, spare, state=SpareState.DROPPING, due_in=backoff.MAX_DELAY)
    else:
        delay = backoff.delay(attempts=spare.attempts + 1)
        spares.fail(session, spare, state=spare.state, due_in=delay)
