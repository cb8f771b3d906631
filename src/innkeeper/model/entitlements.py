"""What a plan includes for customers who serve themselves at the hub. Operators are not bound by it."""

from dataclasses import dataclass

from innkeeper.model.errors import Forbidden, InvalidInput


@dataclass(frozen=True, slots=True)
class Plan:
    """``workspaces``: how many a customer may have that are not purged."""

    name: str
    workspaces: int


PLANS = {plan.name: plan for plan in (Plan("free", 3), Plan("pro", 20), Plan("enterprise", 1000))}


def plan(name: str) -> Plan:
    """The plan of that name; ``InvalidInput`` lists those there are."""
    found = PLANS.get(name)
    if found is None:
        raise InvalidInput(f"there is no plan {name!r}: choose one of {', '.join(PLANS)}", field="plan")
    return found


def may_create(*, plan_name: str, existing: int) -> None:
    """Refuse self-service beyond the plan."""
    limit = plan(plan_name).workspaces
    if existing >= limit:
        has = "" if existing == limit else f", and there are {existing}"
        raise Forbidden(f"the plan {plan_name} includes {limit} workspaces{has}: ask for a purge or for another plan")
