"""Verbs on gateways. Called by the admin API. Gateways register themselves; people only vouch that one is gone."""

from innkeeper.model.errors import Conflict, NotFound
from innkeeper.store import audit, traffic
from innkeeper.store.session import Session


def remove(session: Session, *, actor: str, gateway_id: str) -> int:
    """End every boot of a gateway that said nothing for a minute; how many there were.

    ``NotFound`` when none is registered, ``Conflict`` when it is heard: it may send requests where nobody waits for it.
    What it counted since its last reading is unknown, so its end counts as traffic of all that were awake.
    """
    ended = traffic.remove(session, gateway_id)
    if not ended and any(row["gateway_id"] == gateway_id for row in traffic.gateways(session)):
        raise Conflict(f"gateway {gateway_id} was heard within the last minute: stop it first, then remove it")
    if not ended:
        raise NotFound(f"there is no gateway {gateway_id!r}: see inn gateway list")
    audit.append(session, actor=actor, action="gateway.remove", target=f"gateway:{gateway_id}", detail={"boots": ended})
    return ended
