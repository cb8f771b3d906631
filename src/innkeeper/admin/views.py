"""Rows as the JSON that INTERFACE promises. Times are RFC 3339 in UTC; null means unknown or not applicable."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from innkeeper.control.clock import Shown
from innkeeper.control.drift import Finding
from innkeeper.control.explain import Fact, Why
from innkeeper.control.mending import Mended
from innkeeper.control.purges import Preview
from innkeeper.control.reseal import KeyUse
from innkeeper.model.audit import AuditRow
from innkeeper.model.domain import Domain
from innkeeper.model.placement import Load
from innkeeper.model.token import Token
from innkeeper.model.workspace import Cluster, Customer, Instance, Operation
from innkeeper.ports import Trial
from innkeeper.store.pace import Pace
from innkeeper.store.sealed import PLACES

Json = dict[str, Any]


def when(at: datetime | None) -> str | None:
    """``2026-11-24T17:22:14.123456Z``."""
    return None if at is None else at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def workspace(row: Mapping[str, Any], *, domain: Domain, local: bool) -> Json:
    """A row of ``store.shown``. ``customer`` is its id; ``app``, ``instance`` and ``cluster`` are names.

    The cluster is that of the newest activation: where it runs, or ran last.
    """
    shown: Json = {
        "id": row["id"],
        "slug": row["slug"],
        "url": domain.url(row["slug"]),
        "customer": row["customer_id"],
        "plan": row["plan"],
        "app": row["app"],
        "app_version": row["app_version"],
        "state": row["state"],
        "generation": row["generation"],
        "created_at": when(row["created_at"]),
        "last_traffic_at": when(row["last_traffic_at"]),
        "deactivated_at": when(row["deactivated_at"]),
        "purge_at": when(row["purge_at"]),
        "instance": row["instance"],
        "cluster": row["cluster"],
        "hold": row["held_by"] is not None,
        "suspended": row["suspended"],
        "problem": _problem(row),
        "operation": row["operation_id"],
    }
    if local:
        shown["pid"] = row["pid"]
    return shown


def _problem(row: Mapping[str, Any]) -> Json | None:
    problem = row["problem"]
    if problem is None:
        return None
    again = None if problem["permanent"] else when(row["due_real_at"])
    return {name: problem[name] for name in ("step", "reason", "message", "attempts", "permanent")} | {
        "next_try_at": again
    }


def etag(version: int) -> str:
    """A strong validator: the row's version."""
    return f'"{version}"'


def customer(row: Customer) -> Json:
    return {
        "id": row.id,
        "name": row.name,
        "contact_name": row.contact_name,
        "contact_email": row.contact_email,
        "plan": row.plan,
        "created_at": when(row.created_at),
    }


def operation(row: Operation) -> Json:
    """``workspace`` is the slug, where there is one."""
    return {
        "id": row.id,
        "kind": row.kind,
        "state": row.state,
        "workspace": row.detail.get("slug"),
        "requested_by": row.requested_by,
        "requested_at": when(row.requested_at),
        "finished_at": when(row.finished_at),
        "error": row.error,
        "detail": dict(row.detail),
    }


def step(row: Mapping[str, Any]) -> Json:
    return {"seq": row["seq"], "at": when(row["at"]), "step": row["step"], "message": row["message"]}


def instance(row: Instance, *, databases: int, connections: int, spares: int) -> Json:
    return {
        "id": row.id,
        "name": row.name,
        "kind": row.kind,
        "host": row.host,
        "port": row.port,
        "state": row.state,
        "databases": databases,
        "database_capacity": row.database_capacity,
        "spares": spares,
        "connections": connections,
        "connection_capacity": row.connection_capacity,
        "ssl_mode": row.ssl_mode,
    }


def cluster(row: Load, *, operation: str | None) -> Json:
    """``operation``: the drain under way."""
    return {
        "id": row.cluster.id,
        "name": row.cluster.name,
        "kind": row.cluster.kind,
        "access": row.cluster.access,
        "state": row.cluster.state,
        "activations": row.activations,
        "capacity": row.cluster.capacity,
        "dns_peers": list(row.cluster.dns_peers),
        "operation": operation,
    }


def trial(cluster: Cluster, found: Trial) -> Json:
    tried = [{"what": one.what, "enforced": one.enforced, "found": one.found} for one in found.tried]
    return {"cluster": cluster.name, "tried": tried, "egress_window_ms": found.egress_window}


def app(row: Mapping[str, Any], *, spec: bool) -> Json:
    shown = {"id": row["id"], "name": row["name"], "version": row["version"], "created_at": when(row["created_at"])}
    return shown | {"spec": row["spec"]} if spec else shown


def token(row: Token, text: str | None = None) -> Json:
    """``text`` only in the answer that made it."""
    shown: Json = {
        "id": row.id,
        "name": row.name,
        "scopes": list(row.scopes),
        "created_by": row.created_by,
        "created_at": when(row.created_real_at),
        "expires_at": when(row.expires_real_at),
        "revoked_at": when(row.revoked_real_at),
        "last_used_at": when(row.used_real_at),
    }
    return shown | {"token": text} if text is not None else shown


def audit(row: AuditRow) -> Json:
    """``detail`` is the text that was hashed; ``hash`` hexadecimal."""
    return {
        "seq": row.seq,
        "at": when(row.at),
        "real_at": when(row.real_at),
        "actor": row.actor,
        "action": row.action,
        "target": row.target,
        "detail": row.detail,
        "previous": bytes(row.previous).hex(),
        "hash": bytes(row.hash).hex(),
    }


def happening(row: Mapping[str, Any]) -> Json:
    """One line of a workspace's history."""
    return {name: row[name] for name in ("kind", "what", "actor", "text", "operation")} | {"at": when(row["at"])}


def gateway(row: Mapping[str, Any]) -> Json:
    return {
        "id": row["gateway_id"],
        "boot": row["boot_id"],
        "registered_at": when(row["registered_real_at"]),
        "read_at": when(row["read_real_at"]),
        "acknowledged_version": row["acknowledged"],
        "current_version": row["current"],
    }


def breaker(row: Mapping[str, Any], slow: Pace) -> Json:
    return {
        "open": row["opened_at"] is not None,
        "opened_at": when(row["opened_at"]),
        "reason": row["reason"],
        "recent": row["recent"],
        "cap": row["cap"],
        "reset_at": when(row["reset_at"]),
        "sleeps": {
            "paused": slow.paused,
            "paused_since": when(slow.paused_at) if slow.paused else None,
            "resumes_at": when(slow.resumes_at) if slow.paused else None,
            "recent": slow.recent,
            "cap": slow.cap,
        },
    }


def clock(row: Shown) -> Json:
    passage = row.passage
    return {
        "business": when(row.now.business),
        "real": when(row.now.real),
        "offset_seconds": row.status.offset_seconds,
        "movable": row.status.movable,
        "in_doubt_since": when(row.status.doubt_real_at),
        "doubt": row.status.doubt_reason,
        "passage": None if passage is None else {"operation": passage.operation_id, "target": when(passage.target_at)},
    }


def why(row: Why, *, slug: str, state: str) -> Json:
    return {
        "slug": slug,
        "state": state,
        "verdict": row.verdict,
        "business": when(row.now.business),
        "real": when(row.now.real),
        "facts": [_fact(fact) for fact in row.facts],
    }


def _fact(fact: Fact) -> Json:
    return {"what": fact.what, "text": fact.text, "at": when(fact.at), "clock": fact.clock}


def preview(row: Preview) -> Json:
    return {
        "slug": row.slug,
        "would_go": row.would_go,
        "because": row.because,
        "purge_at": when(row.purge_at),
        "destroys": list(row.destroys),
    }


def key_use(row: KeyUse) -> Json:
    counts = {place.what.replace(" ", "_"): row.sealed.get(place.what, 0) for place in PLACES}
    return {"key": row.id, "present": row.present, "sealing": row.sealing} | counts


def finding(row: Finding) -> Json:
    return {"kind": row.kind, "where": row.where, "what": row.what, "explanation": row.explanation}


def mended(row: Mended) -> Json:
    return finding(row.finding) | {"outcome": row.outcome, "did": row.did}
