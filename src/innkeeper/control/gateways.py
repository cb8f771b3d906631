"""Verbs on gateways. Called by the admin API. Gateways register themselves; people only vouch that one is gone."""

from innkeeper.model.errors import NotFound
from innkeeper.store import audit, traffic
from innkeeper.store.session import Session


def remove(session: Session, *, actor: str, gateway_id: str) -> int:
    """End every registered boot of a gateway; how many there were. ``NotFound`` when none is registered.

    What it counted since its last reading is unknown, so its end counts as traffic of all that were awake.
    """
    ended = traffic.remove(session, gateway_id)
    if not ended:
        raise NotFound(f"there is no gateway {gateway_id!r}: see inn gateway list")
    audit.append(session, actor=actor, action="gateway.remove", target=f"gateway:{gateway_id}", detail={"boots": ended})
    return ended
