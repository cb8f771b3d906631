"""From rows of the route table to commands for HAProxy's maps. Pure; the follower runs what is decided here.

| row                       | held by HAProxy     | commands                                                       |
|---------------------------|---------------------|----------------------------------------------------------------|
| awake                     | nothing             | policy if new, route, then host                                |
| awake                     | the same route      | none                                                           |
| awake                     | another route       | delete the old entries first: `add map` would make a second    |
| asleep, refused, purged   | nothing             | none                                                           |
| asleep, refused, purged   | a route             | delete host, then route; its streams are followed to their end |

A host never leads to an activation without a route: a request that met one would be counted for that activation, held
until the workspace wakes, and so keep the withdrawal from ending.
"""

import hashlib
import ipaddress
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from innkeeper.gateway.haproxy import quote
from innkeeper.gateway.settings import HOST
from innkeeper.gateway.statements import RouteRow

WORKSPACE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,50}\Z")
"""Fits the tables' keys with a generation behind it; longer keys would be cut and share a count."""

NO_POLICY = ""


@dataclass(frozen=True, slots=True)
class Held:
    """What HAProxy's maps hold for one workspace: host -> activation -> route.

    ``activation`` = id.generation, the key under which requests in flight are counted; ``route`` = ip|port, with probe
    rules |policy behind.
    """

    host: str
    activation: str
    route: str

    @property
    def address(self) -> str:
        """``ip:port``, as HAProxy prints it."""
        ip, port = self.route.split("|")[:2]
        return f"{ip}:{port}"

    @property
    def policy(self) -> str:
        """The name of its probe rules; empty if it has none."""
        return ([*self.route.split("|"), NO_POLICY])[2]


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
    """Rows that cannot be served, each with the reason."""
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
        if after == before:
            continue
        if before is not None:
            result.taken[row.workspace_id] = before
            commands = result.awaken if after else result.withdraw
            commands += withdrawal(before)
        if after is not None:
            result.awaken.append(f"add map routes.map {after.activation} {after.route}")
            result.awaken.append(f"add map hosts.map {after.host} {after.activation}")
        result.held[row.workspace_id] = after
    return result


def withdrawal(held: Held) -> list[str]:
    """The commands that take it out of the maps."""
    return [f"del map hosts.map {held.host}", f"del map routes.map {held.activation}"]


def is_probe(idle: Mapping[str, Any], *, path: str, agent: str) -> bool:
    """Whether a request is one that must neither wake nor count: an exact path, or an agent that contains a word."""
    if path in _paths(idle):
        return True
    return any(word in agent.lower() for word in _agents(idle))


def _wanted(row: RouteRow, result: Plan, policies: Collection[str]) -> Held:
    name = policy(row.idle)
    if name != NO_POLICY and name not in policies and name not in result.policies:
        result.policies.add(name)
        # Without a policy behind: whether a request might be anybody's probe, which hardly any is.
        for path in _paths(row.idle):
            result.prepare += [f"add map probe-paths.map {quote(key)} 1" for key in (path, f"{path}|{name}")]
        for word in _agents(row.idle):
            result.prepare.append(f"add map probe-words.map {quote(word)} 1")
            result.prepare.append(f"add map probe-agents.map {quote(_pattern(name, word))} 1")
    route = f"{row.ip}|{row.port}"
    return Held(row.host, activation(row), route if name == NO_POLICY else f"{route}|{name}")


def workspace_of(activation: str) -> str:
    """Whose it is."""
    return activation.rpartition(".")[0]


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
