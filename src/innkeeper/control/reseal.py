"""Sealing again, under the newest key-encryption key, all that older ones have sealed (``inn secrets reseal``).

``ask`` (from the admin API) writes an operation; any worker's tick runs it by ``step``, while workspaces wake, sleep,
are made and purged. It begins anew after a crash: what is done is found by its header and passed over. Nobody waits
for it, and a row that somebody holds is looked at again. It ends when the database has nothing left under another key.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from innkeeper.control.house import House
from innkeeper.control.workspaces import key_context, secret_context
from innkeeper.model import ids
from innkeeper.model.errors import Conflict, PermanentError
from innkeeper.model.workspace import Operation
from innkeeper.ports import Keys, SecretBox
from innkeeper.store import audit, idempotency, operations, sealed
from innkeeper.store.locks import held
from innkeeper.store.sealed import Blob, Place
from innkeeper.store.session import Session, notify

log = structlog.get_logger()

KIND = "secrets.reseal"
ACTOR = "system:reseal"
BATCH = 200
"""Blobs in one transaction: a few milliseconds of row locks."""
_NAMED = 5
"""Rows that cannot be opened, named in the operation's error."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """One key-encryption key: whether it is in the key file, whether it seals, and how many blobs it has sealed."""

    id: str
    present: bool
    sealing: bool
    sealed: dict[str, int]

    @property
    def total(self) -> int:
        """All blobs under it."""
        return sum(self.sealed.values())


def status(session: Session, box: SecretBox) -> list[KeyUse]:
    """Every key that is in the key file or was ever used and still needed; the one that seals first."""
    return _uses(session, box, box.keys())


def _uses(session: Session, box: SecretBox, keys: Keys) -> list[KeyUse]:
    found: dict[str, dict[str, int]] = {key: {} for key in keys.ids}
    for place in sealed.PLACES:
        for header, count in sealed.headers(session, place, length=len(keys.header)).items():
            counts = found.setdefault(box.key_of(header), {})
            counts[place.what] = counts.get(place.what, 0) + count
    return [KeyUse(key, key in keys.ids, key == keys.sealing, counts) for key, counts in found.items()]


def ask(session: Session, *, actor: str, box: SecretBox) -> Operation:
    """Begin. ``Conflict`` while one runs, or when a key is missing that something is sealed under."""
    operations.one_asker(session, KIND)
    keys = box.keys()
    running = operations.resealing(session)
    if running is not None and running.detail.get("key") == keys.sealing:
        message = f"secrets are being sealed again already: follow it with inn operation follow {running.id}"
        raise Conflict(message, operation=running.id)
    uses = _uses(session, box, keys)
    lost = [use for use in uses if use.total and not use.present]
    if lost:
        raise Conflict(f"{missing(lost)}: put that key's line back, then seal again")
    if running is not None:  # towards a key that does not seal any more
        operations.finish(session, running.id, state="cancelled")
    older = {use.id: use.total for use in uses if not use.sealing and use.total}
    operation = operations.start(
        session,
        operation_id=ids.prefixed("op"),
        kind=KIND,
        workspace_id=None,
        requested_by=actor,
        detail={"key": keys.sealing, "older": older},
    )
    audit.append(session, actor=actor, action=KIND, target=operation.id, detail={"key": keys.sealing, "older": older})
    notify(session, "reseal")
    return operation


def missing(lost: Sequence[KeyUse]) -> str:
    """What is sealed under keys that are not there, in words."""
    return ", ".join(f"key {use.id} is not in the key file and {use.total} values are sealed under it" for use in lost)


def step(house: House, *, stopping: Callable[[], bool] = lambda: False) -> None:
    """One pass over all that is sealed, if one was asked for and nobody else is at it."""
    with house.database.transaction() as session:
        operation = operations.resealing(session)
    if operation is None:
        return
    with held(house.database, operation.id) as mine:
        if mine:
            _pass(house, operation, stopping)


@dataclass(slots=True)
class _Pass:
    """One pass over everything. ``unreadable``: what could not be opened, and why."""

    house: House
    operation: Operation
    keys: Keys
    stopping: Callable[[], bool]
    unreadable: list[str] = field(default_factory=list[str])

    def tell(self, session: Session, message: str) -> None:
        operations.event(session, self.operation.id, step="reseal", message=message)


def _pass(house: House, operation: Operation, stopping: Callable[[], bool]) -> None:
    keys = house.box.keys()
    if keys.sealing != operation.detail["key"]:
        words = f"Waiting until the worker's key file begins with key {operation.detail['key']}"
        with house.database.transaction() as session:
            operations.event(session, operation.id, step="wait", message=words)
        return
    run = _Pass(house, operation, keys, stopping)
    for place in sealed.PLACES:
        done = _reseal(run, place)
        if stopping():
            return
        if done:
            with house.database.transaction() as session:
                run.tell(session, f"{done} {place.what} are sealed under key {keys.sealing}")
    _conclude(run)


def _reseal(run: _Pass, place: Place) -> int:
    """One pass over one table; how many it sealed again. What cannot be opened is left as it is, and named."""
    house, done, said, after = run.house, 0, 0, None
    while not run.stopping():
        with house.database.transaction() as session:
            found = sealed.batch(session, place, header=run.keys.header, after=after, limit=BATCH)
        if not found:
            break
        after = found[-1]
        # No transaction is open here: a box may be a service that is asked for each of them.
        changes: list[tuple[Blob, bytes]] = []
        for blob in found:
            context = _context(place, blob)
            try:
                changes.append((blob, house.box.seal(house.box.open(blob.sealed, context=context), context=context)))
            except PermanentError as error:
                log.warning("reseal.unreadable", what=context, why=str(error))
                run.unreadable.append(f"{context}: {error}")
        if not changes:
            continue
        with house.database.transaction() as session:
            done += sealed.replace(session, place, changes)
            if done - said >= BATCH * 10:
                said = done
                run.tell(session, f"{done} {place.what} so far")
    return done


def _conclude(run: _Pass) -> None:
    """End it if nothing is left but what cannot be opened; else the next pass finds what was held or came meanwhile."""
    operation, keys, unreadable = run.operation, run.keys, run.unreadable
    with run.house.database.transaction() as session:
        uses = _uses(session, run.house.box, keys)
        left = sum(use.total for use in uses if not use.sealing)
        if left > len(unreadable):
            return
        retired = [use.id for use in uses if not use.sealing and not use.total]
        if left:
            named = "; ".join(unreadable[:_NAMED])
            error: dict[str, object] = {
                "type": KIND,
                "detail": f"{left} values could not be opened, and no key may be removed: {named}",
            }
            operations.finish(session, operation.id, error=error)
        else:
            operations.event(session, operation.id, step="verified", message=_verified(keys, retired))
            operations.finish(session, operation.id)
        detail = {"key": keys.sealing, "left": left, "retired": [] if left else retired}
        audit.append(session, actor=ACTOR, action=f"{KIND}.end", target=operation.id, detail=detail)


def _verified(keys: Keys, retired: Sequence[str]) -> str:
    told = f"Everything is sealed under key {keys.sealing}"
    if not retired:
        return f"{told}; the key file holds no other"
    which = ", ".join(retired)
    return f"{told}; once every process has read this key file, the lines of {which} may be removed from it"


def _context(place: Place, blob: Blob) -> str:
    if place is sealed.SECRETS:
        return secret_context(blob.first, blob.second)
    if place is sealed.ACTIVATIONS:
        return key_context(blob.first, blob.second)
    return idempotency.context(blob.first, blob.second)
