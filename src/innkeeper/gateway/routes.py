"""From rows of the route table to commands for HAProxy's maps. Pure; the follower runs what is decided here.

| row                       | held by HAProxy     | commands                                                       |
|---------------------------|---------------------|----------------------------------------------------------------|
| awake                     | nothing             | policy if new, then the entry                                  |
| awake                     | the same route      | none, also if contact was lost since and it goes by its Service |
| awake                     | another route       | replace the value; nobody meets a moment without               |
| awake                     | another host or map | delete the old entry, then add                                 |
| asleep, refused, purged   | nothing             | none                                                           |
| asleep, refused, purged   | a route             | delete the entry; its streams are followed to their end        |

One entry is all there is of a route, so a request has met either the whole of it or nothing.

When contact with the state database is lost (``through_services``), each route goes by its Service, if it has one. It
stays there when contact is back, until the table says something new of it: what the table says was written by workers
who had lost contact, too, and a pod's address in it may be another tenant's by now.
"""

import hashlib
import ipaddress
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from innkeeper.gateway.haproxy import quote
from innkeeper.gateway.held import NO_POLICY, Held
from innkeeper.gateway.settings import HOST
from innkeeper.gateway.statements import RouteRow
from innkeeper.model.workspace import Address

WORKSPACE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,50}\Z")
"""Fits the tables' keys with a generation behind it; longer keys would be cut and share a count."""


@dataclass(slots=True)
class Plan:
    """Commands by when they run: ``prepare`` and ``awaken`` first and in this order, then ``withdraw``."""

    prepare: list[str] = field(default_factory=list[str])
    awaken: list[str] = field(default_factory=list[str])
    withdraw: list[str] = field(default_factory=list[str])
    held: dict[str, Held | None] = field(default_factory=dict[str, "Held | None"])
    """What will be held afterwards, by workspace, for those that change."""
    taken: dict[str, Held] = field(default_factory=dict[str, Held])
    """What was held before, for those whose route goes away or is replaced."""
    refused: list[str] = field(default_factory=list[str])
    """What of a row cannot be served, each with the reason."""
    policies: set[str] = field(default_factory=set[str])


def plan(
    rows: Iterable[RouteRow], *, held: Mapping[str, Held], policies: Collection[str], static: Collection[str]
) -> Plan:
    """The table above."""
    result = Plan()
    for row in rows:
        before = held.get(row.workspace_id)
        after = None
        if row.status == "awake":
            wrong = _wrong(row, static)
            if wrong:
                result.refused.append(wrong)
            else:
                after = _wanted(row, result, policies)
        if after == (before and replace(before, by_service=False)):
            continue
        if before is not None:
            result.taken[row.workspace_id] = before
        if after is not None:
            result.awaken += _entry(before, after)
        elif before is not None:
            result.withdraw.append(withdrawal(before))
        result.held[row.workspace_id] = after
    return result


def through_services(held: Mapping[str, Held]) -> Plan:
    """Contact is lost: what an address of a pod leads to, nobody knows any more."""
    result = Plan()
    for workspace, before in held.items():
        after = before.through_service
        if after != before:
            result.awaken += _entry(before, after)
            result.held[workspace] = after
    return result


def withdrawal(held: Held) -> str:
    """The command that takes it out of the maps."""
    return f"del map {held.map} {held.host}"


def _entry(before: Held | None, after: Held) -> list[str]:
    if before is not None and (before.map, before.host) == (after.map, after.host):
        return [f"set map {after.map} {after.host} {after.text}"]
    # `add map` on a key that exists would make a second entry.
    gone = [] if before is None else [withdrawal(before)]
    return [*gone, f"add map {after.map} {after.host} {after.text}"]


def is_probe(idle: Mapping[str, Any], *, path: str, agent: str) -> bool:
    """Whether a request is one that must neither wake nor count: an exact path, or an agent that contains a word."""
    if path in _paths(idle):
        return True
    return any(word in agent.lower() for word in _agents(idle))


def _wanted(row: RouteRow, result: Plan, policies: Collection[str]) -> Held:
    name = policy(row.idle)
    if name != NO_POLICY and name not in policies and name not in result.policies:
        result.policies.add(name)
        for path in _paths(row.idle):
            result.prepare.append(f"add map careful-urls.map {quote(path)} 1")
            result.prepare.append(f"add map probe-paths.map {quote(f'{path}|{name}')} 1")
        for word in _agents(row.idle):
            result.prepare.append(f"add map probe-words.map {quote(word)} 1")
            result.prepare.append(f"add map probe-agents.map {quote(_pattern(name, word))} 1")
    ip = ipaddress.ip_address(row.ip or "")
    return Held(row.host, str(ip), row.port or 0, activation(row), name, _service(row, ip.version, result))


def _service(row: RouteRow, version: int, result: Plan) -> Address | None:
    """Of the other family, it would be in another map than the address it stands in for: not used."""
    if row.service is None:
        return None
    address = Address.parse(row.service)
    ip = ipaddress.ip_address(address.ip)
    if ip.version != version:
        result.refused.append(f"workspace {row.workspace_id}: by its Service, whose address is {row.service}")
        return None
    return Address(str(ip), address.port)


def activation(row: RouteRow) -> str:
    """The key under which HAProxy counts what is in flight to this activation."""
    return f"{row.workspace_id}.{row.generation}"


def policy(idle: Mapping[str, Any]) -> str:
    """A name for one set of probe rules; workspaces of one application share it."""
    paths, agents = _paths(idle), _agents(idle)
    if not paths and not agents:
        return NO_POLICY
    return hashlib.sha256(json.dumps([paths, agents]).encode()).hexdigest()[:16]


def _paths(idle: Mapping[str, Any]) -> list[str]:
    """No path of a request has a blank or a control character in it, so such a rule never matches."""
    found = [*idle.get("ignore_paths", ()), *filter(None, [idle.get("health_path")])]
    return sorted({path for path in found if path.isascii() and path.isprintable() and " " not in path})


def _agents(idle: Mapping[str, Any]) -> list[str]:
    # An empty word would be part of every agent.
    return sorted({word.lower() for word in idle.get("probe_agents", ()) if word})


def _pattern(name: str, word: str) -> str:
    """A regular expression for HAProxy in which nothing of the word has a meaning."""
    escaped = "".join(char if char.isalnum() and char.isascii() else _hex(char) for char in word)
    return f"{escaped}.*\\|{name}$"


def _hex(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())


def _wrong(row: RouteRow, static: Collection[str]) -> str | None:
    if not HOST.match(row.host) or not WORKSPACE_ID.match(row.workspace_id):
        return f"workspace {row.workspace_id!r}: {row.host!r} is not a host name that can be routed"
    if row.host in static:
        return f"workspace {row.workspace_id}: the host {row.host} is the product's own"
    try:
        ipaddress.ip_address(row.ip or "")
    except ValueError:
        return f"workspace {row.workspace_id}: {row.ip!r} is not an IP address"
    return None
