"""The invariants of RELIABILITY.md, checked from the outside on a ``Snapshot``. Called after every step and scenario.

Each function returns what is wrong, in words; ``violations`` runs them all. tests/integration/test_invariants.py plants
one violation of each and shows that it is found. I5, I11 to I14 belong to gateway, hardening and opt-out tests.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from innkeeper.model import audit as audit_model
from innkeeper.model import breaker
from innkeeper.model.audit import AuditRow
from support.site import Row, Snapshot

ASLEEP = ("deactivated", "purged")
KEPT, FIRST, LAST, WINDOW = timedelta(days=60), timedelta(days=7), timedelta(days=1), timedelta(hours=48)
"""The product's promises, written down again here: a constant that changes in the product must not change its test."""


def i1_every_object_has_its_row(s: Snapshot) -> Iterator[str]:
    """Processes and records are of activations that live; one generation of a workspace at a time."""
    for process in s.processes:
        row = s.activations.get((process.workspace_id, process.generation))
        if row is None:
            yield f"{process} of {process.workspace_id} g{process.generation} has no activation row"
        elif row["phase"] == "absent":
            yield f"{process} runs although its activation is verified absent"
        elif s.workspaces[process.workspace_id]["state"] in ASLEEP:
            yield f"{process} runs although its workspace is asleep"
    for key in s.records:
        if key not in s.activations or s.activations[key]["phase"] == "absent":
            yield f"the runtime has a record of {key}, which no activation row explains"
    for workspace_id, generations in _generations(s).items():
        if len(generations) > 1:
            yield f"{workspace_id} runs in generations {sorted(generations)} at once"


def i1_the_ended_are_followed(s: Snapshot) -> Iterator[str]:
    """An activation that ended stays due until its objects are verified absent."""
    for key, row in s.activations.items():
        moving = s.workspaces[key[0]]["due_real_at"] is not None
        if row["phase"] == "ended" and row["due_real_at"] is None and not moving:
            yield f"activation {key} has ended and nobody will verify its absence"


def i1_sleepers_have_nothing(s: Snapshot) -> Iterator[str]:
    """Who sleeps has no route and no login; who is purged has nothing; a route leads to its own activation."""
    for workspace_id, row in s.workspaces.items():
        route = s.routes[workspace_id]
        activation = s.activations[(workspace_id, row["generation"])]
        role = f"ws_{workspace_id}"
        if row["state"] in ASLEEP and route["status"] == "awake":
            yield f"{row['slug']} is {row['state']} and has a route"
        if row["state"] in ASLEEP and (s.roles.get(role) or s.sessions.get(role)):
            yield f"{row['slug']} is {row['state']} and has a login or a session"
        if route["status"] == "awake" and (
            route["generation"] != row["generation"] or activation["address"] != f"{route['ip']}:{route['port']}"
        ):
            yield f"the route of {row['slug']} leads to something that is not its activation"
        if row["state"] == "purged" and {role, f"{role}_owner"} & (s.databases | set(s.roles)):
            yield f"{row['slug']} is purged and has a database or a role"


def i2_names(s: Snapshot) -> Iterator[str]:
    """Names derive from ids and belong to one workspace for ever."""
    ids = {*s.workspaces, *s.spares}
    known = {f"ws_{i}": i for i in ids} | {f"ws_{i}_owner": i for i in ids}
    for name in (s.databases | set(s.roles)) - s.baseline:
        if name not in known:
            yield f"{name} on the instance belongs to no workspace and is no spare"
        if len(name) > 63:
            yield f"{name} is longer than 63 bytes"
    for what, count in Counter(row["host"] for row in s.routes.values()).items():
        if count > 1:
            yield f"host {what} belongs to {count} workspaces"


def i2_spares_are_nobodys(s: Snapshot) -> Iterator[str]:
    """A spare that is ready is whole, nobody can log in to it, and at most one of an instance is in work."""
    for spare_id, row in s.spares.items():
        role = f"ws_{spare_id}"
        if spare_id in s.workspaces:
            yield f"spare {spare_id} is a workspace, too"
        if s.roles.get(role) or s.roles.get(f"{role}_owner") or s.sessions.get(role):
            yield f"spare {spare_id} has a login or a session"
        if row["state"] == "ready" and not ({role} <= s.databases and {role, f"{role}_owner"} <= set(s.roles)):
            yield f"spare {spare_id} is ready, and not all of it is there"
    for instance, count in Counter(r["instance_id"] for r in s.spares.values() if _in_work(r)).items():
        if count > 1:
            yield f"{count} spares of {instance} are in work at once"
    for workspace_id, count in Counter(r["workspace_id"] for r in s.spares.values() if r["state"] == "given").items():
        if count > 1:
            yield f"{workspace_id} was given {count} spares"


def i3_destroyed_by_right(s: Snapshot) -> Iterator[str]:
    """What was destroyed, or is being: asleep for 60 days, both notices of this sleep accepted in time, no hold."""
    purged = {row.target: row for row in s.audit if row.action == "workspace.purge"}
    for workspace_id, row in s.workspaces.items():
        slug = row["slug"]
        if row["state"] not in ("purging", "purged"):
            if row["database_ready"] and f"ws_{workspace_id}" not in s.databases:
                yield f"the database of {slug} is gone, and it was not purged"
            continue
        begun = purged.get(workspace_id)
        if begun is None:
            yield f"{slug} is {row['state']} and nobody decided it"
            continue
        accepted = {
            n["kind"]: n["accepted_at"]
            for n in s.notices
            if n["workspace_id"] == workspace_id and n["generation"] == row["generation"] and n["accepted_at"]
        }
        if accepted.keys() < {"first", "last"}:
            yield f"{slug} was purged with these notices accepted: {sorted(accepted)}"
        elif begun.at < max(row["deactivated_at"] + KEPT, accepted["first"] + FIRST, accepted["last"] + LAST):
            yield f"{slug} was purged before its time"
        if row["held_by"] is not None:
            yield f"{slug} was purged under a hold"
        if row["last_traffic_at"] is not None and row["last_traffic_at"] > row["deactivated_at"]:
            yield f"{slug} was purged although it had traffic in its sleep"
        if _in_doubt(s.audit, begun.at):
            yield f"{slug} was purged with the clock in doubt"


def i4_idle_by_right(s: Snapshot) -> Iterator[str]:
    """Between 48 h before an idle sleep was decided and its end, no request was served."""
    for workspace_id, decided, ended in _idle_sleeps(s.audit):
        for who, at in s.served:
            if who == workspace_id and decided - WINDOW < at < ended:
                yield f"{workspace_id} slept at {decided} for want of traffic, and was served at {at}"
        if _in_doubt(s.audit, decided):
            yield f"{workspace_id} was put to sleep with the clock in doubt"


def i6_one_key_one_effect(s: Snapshot) -> Iterator[str]:
    """A key names one operation; every operation that a person asked for has one audit row."""
    by_key: dict[str, set[str]] = defaultdict(set)
    for key, operation in s.asked:
        by_key[key].add(operation)
    for key, found in by_key.items():
        if len(found) > 1:
            yield f"key {key} was answered with {sorted(found)}"
    done = Counter(f"{o['requested_by']} {_action(o)} {o['workspace_id'] or o['id']}" for o in s.operations)
    told = Counter(f"{row.actor} {row.action} {row.target}" for row in s.audit)
    for what, count in done.items():
        if told[what] != count and " clock.advance " not in what:
            yield f"{count} operations and {told[what]} audit rows for: {what}"


def i7_the_outside_knows_best(s: Snapshot) -> Iterator[str]:
    """No instance has seen a fence that no claim had; nothing runs that was stopped."""
    for workspace_id, row in s.workspaces.items():
        if s.fences.get(workspace_id, 0) > row["fence"]:
            yield f"the instance saw fence {s.fences[workspace_id]} of {row['slug']}, which has {row['fence']}"
    for spare_id, row in s.spares.items():
        if s.fences.get(spare_id, 0) > row["fence"]:
            yield f"the instance saw fence {s.fences[spare_id]} of spare {spare_id}, which has {row['fence']}"
    for process in s.processes:
        if process.generation <= s.marks.get(process.workspace_id, -1) and not _stopping(s, process.workspace_id):
            yield f"{process} of generation {process.generation} runs behind its stop mark"


def i8_purged_is_for_ever(s: Snapshot) -> Iterator[str]:
    """After a purge was decided nothing but its end follows."""
    decided: set[str] = set()
    for row in s.audit:
        if row.action == "workspace.purge":
            decided.add(row.target)
        elif row.target in decided and row.action not in ("workspace.purged", "workspace.retry") and not _ends(row):
            yield f"{row.action} of {row.target} after its purge was decided"
    for workspace_id in decided:
        state = s.workspaces[workspace_id]["state"]
        if state not in ("purging", "purged"):
            yield f"{workspace_id} came back from its purge: {state}"


def i9_every_change_is_told(s: Snapshot) -> Iterator[str]:
    """The chain holds, and its rows tell every workspace's way to the state it has."""
    for tamper in audit_model.verify(s.audit, s.head):
        yield f"audit row {tamper.seq} {tamper.finding}"
    told: dict[str, str] = {}
    for row in s.audit:
        if not row.action.startswith("workspace."):
            continue
        before, after = _moves(row)
        if before is not None and told.get(row.target) not in (None, before):
            yield f"row {row.seq} ({row.action}) begins at {before}, but {row.target} was {told.get(row.target)}"
        if after is not None:
            told[row.target] = after
    for workspace_id, row in s.workspaces.items():
        if told.get(workspace_id) != row["state"]:
            yield f"{row['slug']} is {row['state']}, and the audit says {told.get(workspace_id)}"


def i10_under_the_cap(s: Snapshot) -> Iterator[str]:
    """Destructive acts in any 24 h stay under the cap, and each is counted."""
    times = sorted(act["at"] for act in s.acts)
    allowed = breaker.cap(fleet=len(s.workspaces))
    for number, at in enumerate(times):
        within = sum(at <= other < at + breaker.WINDOW for other in times[number:])
        if within > allowed:
            yield f"{within} destructive acts within 24 h of {at}, and the cap is {allowed}"
    counted = {act["workspace_id"] for act in s.acts}
    for workspace_id, row in s.workspaces.items():
        if row["state"] in ("purging", "purged") and workspace_id not in counted:
            yield f"the purge of {row['slug']} was not counted"


ALL: tuple[Callable[[Snapshot], Iterator[str]], ...] = (
    i1_every_object_has_its_row,
    i1_the_ended_are_followed,
    i1_sleepers_have_nothing,
    i2_names,
    i2_spares_are_nobodys,
    i3_destroyed_by_right,
    i4_idle_by_right,
    i6_one_key_one_effect,
    i7_the_outside_knows_best,
    i8_purged_is_for_ever,
    i9_every_change_is_told,
    i10_under_the_cap,
)


def settled(s: Snapshot) -> Iterator[str]:
    """Once everything has come to rest: who is awake has everything, and no operation is forgotten."""
    for workspace_id, row in s.workspaces.items():
        generations = _generations(s).get(workspace_id, set())
        if row["state"] not in ("active", "deactivated", "purged"):
            yield f"{row['slug']} is still {row['state']}"
        if row["state"] == "active":
            if generations != {row["generation"]}:
                yield f"{row['slug']} is active and runs in generations {sorted(generations)}"
            if s.routes[workspace_id]["status"] != "awake" or not s.roles.get(f"ws_{workspace_id}"):
                yield f"{row['slug']} is active and has no route or no login"
    claimed = {row["slug"]: row["lease_owner"] for row in s.workspaces.values() if row["lease_owner"]}
    if claimed:
        yield f"still claimed: {claimed}"
    running = [f"{o['kind']} of {o['workspace_id']}" for o in s.operations if o["state"] == "running"]
    if running:
        yield f"operations never ended: {running}"
    unfinished = {spare_id: row["state"] for spare_id, row in s.spares.items() if row["state"] != "ready"}
    if unfinished:
        yield f"spares were never finished: {unfinished}"
    ended = [key for key, row in s.activations.items() if row["phase"] == "ended"]
    if ended:
        yield f"activations were never verified absent: {ended}"


def violations(s: Snapshot, *, at_rest: bool = False) -> list[str]:
    found = [f"{check.__name__}: {what}" for check in ALL for what in check(s)]
    return found + ([f"settled: {what}" for what in settled(s)] if at_rest else [])


def _generations(s: Snapshot) -> dict[str, set[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for process in s.processes:
        found[process.workspace_id].add(process.generation)
    return found


def _ends(row: AuditRow) -> bool:
    """What a purge missed was ended by ``inn drift --fix``."""
    return row.action == "drift.fix" and json.loads(row.detail)["did"] in ("remove", "drop")


def _in_work(spare: Row) -> bool:
    return spare["state"] in ("making", "dropping")


def _stopping(s: Snapshot, workspace_id: str) -> bool:
    return s.workspaces[workspace_id]["state"] in ("deactivating", "purging")


def _action(operation: Row) -> str:
    if operation["requested_by"] == "system:idle":
        return "workspace.idle"
    return operation["kind"] if "." in operation["kind"] else f"workspace.{operation['kind']}"


def _moves(row: AuditRow) -> tuple[str | None, str | None]:
    detail = json.loads(row.detail)
    match row.action:
        case "workspace.create":
            return None, "provisioning"
        case "workspace.purged":
            return "purging", "purged"
        case "workspace.failed":
            return detail["from"], "deactivating"
        case _:
            return detail.get("from"), detail.get("to")


def _in_doubt(audit: list[AuditRow], at: datetime) -> bool:
    doubt = False
    for row in audit:
        if row.at > at:
            break
        if row.action in ("clock.doubt", "clock.accept"):
            doubt = row.action == "clock.doubt"
    return doubt


def _idle_sleeps(audit: list[AuditRow]) -> Iterator[tuple[str, datetime, datetime]]:
    """Idle sleeps that came to their end as such: (workspace, decided, ended)."""
    begun: dict[str, datetime] = {}
    for row in audit:
        if row.action == "workspace.idle":
            begun[row.target] = row.at
        elif row.action == "workspace.deactivated" and row.target in begun:
            yield row.target, begun.pop(row.target), row.at
        elif row.action in ("workspace.sleep-met-traffic", "workspace.suspend", "workspace.deactivate"):
            begun.pop(row.target, None)
