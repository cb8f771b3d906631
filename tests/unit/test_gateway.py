"""The gateway's pure parts: changes of the maps, what a reading counted, what a journal remembers, how pages look."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.gateway import pages
from innkeeper.gateway.config import agent_command, haproxy_command, write_config
from innkeeper.gateway.haproxy import Counters, map_entries, map_value, quote, streams_to
from innkeeper.gateway.held import Held
from innkeeper.gateway.journal import Journal, Withdrawal
from innkeeper.gateway.readings import by_workspace, changes
from innkeeper.gateway.routes import is_probe, plan, policy, through_services
from innkeeper.gateway.settings import GatewaySettings, split_address
from innkeeper.gateway.statements import RouteRow
from innkeeper.model.workspace import Address

HELD = Held("a.apps.localhost", "127.0.0.1", 5000, "a.1")
NONE = "0" * 16
TEXT = f"7f000001|05000|{NONE}|o|00000000|00000|a.1"
SERVICE = Address("10.96.0.1", 80)
"""Its Service's."""


def row(status: str, *, generation: int = 1, port: int | None = 5000, **more: object) -> RouteRow:
    values: dict[str, object] = {
        "workspace_id": "a",
        "host": "a.apps.localhost",
        "status": status,
        "generation": generation,
        "ip": "127.0.0.1" if status == "awake" else None,
        "port": port if status == "awake" else None,
        "version": 7,
    }
    return RouteRow(**(values | more))  # pyright: ignore[reportArgumentType]


def decide(*rows: RouteRow, held: dict[str, Held] | None = None):
    return plan(rows, held=held or {}, policies=(), static=("hub.localhost",))


def test_an_awakening_is_one_entry():
    assert decide(row("awake")).awaken == [f"add map hosts.map a.apps.localhost {TEXT}"]
    sixth = decide(row("awake", ip="0:0::1")).awaken
    assert sixth == [f"add map hosts6.map a.apps.localhost ::1|05000|{NONE}|o|::|00000|a.1"]


@pytest.mark.parametrize(
    ("ip", "map_"), [("10.1.2.255", "hosts.map"), ("::1", "hosts6.map"), ("fd00::7", "hosts6.map")]
)
@pytest.mark.parametrize("rules", ["", "0123456789abcdef"])
@pytest.mark.parametrize("service", [False, True])
def test_what_is_written_is_read_back(ip: str, map_: str, rules: str, *, service: bool):
    beside = (SERVICE if map_ == "hosts.map" else Address("fd00::1", 81)) if service else None
    held = Held("a.apps.localhost", ip, 80, "a-b.12", rules, beside)
    for each in (held, held.through_service):
        assert Held.read(each.host, each.text) == each
        assert each.map == map_
        # The places at which HAProxy cuts it.
        if map_ == "hosts.map":
            assert (each.text[9:14], each.text[49:]) == ("00080", "a-b.12")
        assert each.text.split("|")[6] == "a-b.12"


def test_the_same_route_again_is_nothing():
    decided = decide(row("awake"), held={"a": HELD})
    assert (decided.awaken, decided.withdraw, decided.taken) == ([], [], {})


def test_another_route_takes_the_place_of_the_old_one_without_a_moment_between():
    decided = decide(row("awake", generation=2, port=5001), held={"a": HELD})
    assert decided.awaken == [f"set map hosts.map a.apps.localhost 7f000001|05001|{NONE}|o|00000000|00000|a.2"]
    assert decided.taken == {"a": HELD}


@pytest.mark.parametrize("other", [{"host": "b.apps.localhost"}, {"ip": "::1"}])
def test_another_key_or_map_deletes_first_because_the_old_entry_would_stay(other: dict[str, Any]):
    decided = decide(row("awake", **other), held={"a": HELD})
    assert decided.awaken[0] == "del map hosts.map a.apps.localhost"
    assert [command.split()[0] for command in decided.awaken] == ["del", "add"]


KNOWN = replace(HELD, service=SERVICE)


def test_who_loses_contact_goes_by_services_where_there_are_any():
    alone = replace(HELD, host="b.apps.localhost", activation="b.1")
    decided = through_services({"a": KNOWN, "b": alone})
    assert decided.awaken == [f"set map hosts.map a.apps.localhost 0a600001|00080|{NONE}|s|7f000001|05000|a.1"]
    assert decided.held == {"a": KNOWN.through_service}
    assert (decided.prepare, decided.withdraw) == ([], [])
    assert through_services({"a": KNOWN.through_service, "b": alone}).held == {}


def test_what_goes_by_its_service_stays_there_until_the_table_says_something_new():
    held = {"a": KNOWN.through_service}
    same = decide(row("awake", service=str(SERVICE)), held=held)
    assert (same.awaken, same.withdraw, same.held, same.taken) == ([], [], {}, {})
    # Another pod, another Service, another generation: somebody has looked since.
    for news in ({"port": 5001}, {"ip": "10.0.0.1"}, {"service": "10.96.0.2:80"}, {"generation": 2}):
        said: dict[str, Any] = {"service": str(SERVICE), **news}
        decided = decide(row("awake", **said), held=held)
        assert [command.split()[0] for command in decided.awaken] == ["set"]
        assert decided.held["a"] is not None
        assert not decided.held["a"].by_service
        assert decided.taken == held
    assert decide(row("asleep"), held=held).withdraw == ["del map hosts.map a.apps.localhost"]


def test_a_service_of_the_other_family_is_not_used_and_said():
    decided = decide(row("awake", service="[fd00::1]:80"))
    assert decided.held == {"a": HELD}
    assert len(decided.refused) == 1


def test_streams_are_where_they_were_when_their_route_changed():
    assert KNOWN.addresses == KNOWN.through_service.addresses == ("127.0.0.1:5000", "10.96.0.1:80")
    assert HELD.addresses == ("127.0.0.1:5000",)


@pytest.mark.parametrize("status", ["asleep", "refused", "purged"])
def test_a_withdrawal_deletes_the_entry(status: str):
    assert decide(row(status)).withdraw == []
    decided = decide(row(status), held={"a": HELD})
    assert decided.withdraw == ["del map hosts.map a.apps.localhost"]
    assert decided.held == {"a": None}


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "hub.localhost"},
        {"host": "a b"},
        {"host": "a;show info"},
        {"host": "A.apps.localhost"},
        {"host": "a\n.apps.localhost"},
        {"host": "." * 3},
        {"host": "a" * 300},
        {"workspace_id": "a;b"},
        {"workspace_id": "a" * 60},
        {"workspace_id": "a.1"},
        {"ip": "localhost"},
        {"ip": "127.0.0.1|1"},
    ],
)
def test_what_cannot_be_routed_safely_is_refused_with_a_reason(wrong: dict[str, Any]):
    decided = decide(row("awake", **wrong))
    assert (decided.prepare, decided.awaken) == ([], [])
    assert len(decided.refused) == 1
    assert "\n" not in decided.refused[0]


def test_a_row_that_became_unroutable_loses_its_route():
    assert decide(row("awake", ip="nonsense"), held={"a": HELD}).withdraw


def test_workspaces_of_one_application_share_a_policy():
    idle = {"probe_agents": ["Uptime"], "ignore_paths": ["/ping"], "health_path": "/healthz"}
    decided = decide(row("awake", idle=idle), row("awake", workspace_id="b", host="b.apps.localhost", idle=idle))
    assert len(decided.prepare) == 6
    assert len(decided.policies) == 1
    assert policy(idle) != policy({**idle, "health_path": "/x"})
    assert policy({}) == policy({"probe_agents": [""]}) == ""


def test_an_empty_word_is_not_part_of_every_agent():
    assert not is_probe({"probe_agents": [""]}, path="/", agent="Mozilla")
    assert is_probe({"probe_agents": ["moz"]}, path="/", agent="Mozilla")


@pytest.mark.parametrize(
    ("before", "now", "counted"),
    [
        (None, Counters(2, 10, 0), Counters(2, 10, 0)),
        (Counters(2, 10, 0), Counters(5, 30, 1), Counters(3, 20, 1)),
        (Counters(2, 10, 0), Counters(2, 10, 0), None),
        (Counters(2, 10, 0), Counters(2, 10, 1), Counters(0, 0, 1)),
        (Counters(2, 10, 3), Counters(2, 10, 0), Counters(0, 0, 0)),
        (Counters(5, 90, 0), Counters(1, 7, 0), Counters(1, 7, 0)),
        (Counters(5, 90, 0), Counters(9, 7, 0), Counters(9, 7, 0)),
        (Counters(5, 90, 2), None, Counters(0, 0, 0)),
        (Counters(5, 90, 0), None, None),
        (None, Counters(0, 0, 0), None),
    ],
)
def test_what_a_reading_counts(before: Counters | None, now: Counters | None, counted: Counters | None):
    found = changes({"a": before} if before else {}, {"a": now} if now else {})
    assert found == ({"a": counted} if counted is not None else {})


@given(st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=2), max_size=20))
def test_readings_add_up_to_the_counter(steps: list[list[int]]):
    before: dict[str, Counters] = {}
    total = Counters(0, 0, 0)
    for requests, size in steps:
        old = before.get("a", Counters(0, 0, 0))
        now = {"a": Counters(old.requests + requests, old.bytes + size, 0)}
        for row_ in changes(before, now).values():
            total = Counters(total.requests + row_.requests, total.bytes + row_.bytes, 0)
        before = now
    assert total == before.get("a", total)


def test_a_workspace_is_the_sum_of_its_activations():
    changed = {"a.1": Counters(1, 10, 2), "a.2": Counters(3, 5, 1), "b.1": Counters(0, 0, 0)}
    assert by_workspace(changed) == {"a": Counters(4, 15, 3), "b": Counters(0, 0, 0)}


def test_a_journal_is_valid_for_one_life_of_haproxy(tmp_path: Path):
    path = tmp_path / "journal"
    first = Journal.open(path, "one")
    first.read({"a": Counters(1, 2, 0), "b": Counters(3, 4, 1)}, set())
    first.read({"a": Counters(5, 6, 0)}, {"b"})
    first.withdrawn(Withdrawal("a", 7, ("a.1",), KNOWN.addresses))
    first.withdrawn(Withdrawal("c", 8, ("c.1",), ()))
    first.drained("c", 9)
    with path.open("a") as file:
        file.write('["read",{"a":[99')  # torn: the agent died while it wrote
    again = Journal.open(path, "one")
    assert again.adopted
    assert again.counters == {"a": Counters(5, 6, 0)}
    assert list(again.withdrawals.values()) == [Withdrawal("a", 7, ("a.1",), KNOWN.addresses)]
    other = Journal.open(path, "two")
    assert (other.adopted, other.counters, other.withdrawals) == (False, {}, {})


def test_answers_of_haproxy_are_read():
    assert map_entries("0x1 a b|c\n0x2 d e\n") == {"a": "b|c", "d": "e"}
    assert map_value('type=str, found=yes, idx=tree, key="a", value="b|c", type="str"') == "b|c"
    assert map_value("type=str, case=sensitive, found=no") is None
    listing = (
        "0xa1: [x] id=1 proto=tcpv4\n  server=http (id=1) addr=127.0.0.1:5000\n"
        "0xa2: [x] id=2 proto=tcpv4\n  server=<NONE> (id=-1)\n"
        "0xa3: [x] id=3 proto=tcpv4\n  server=http (id=1) addr=127.0.0.1:50001\n"
    )
    assert streams_to(listing, ("127.0.0.1:5000",)) == ["0xa1"]
    assert streams_to(listing, ("127.0.0.1:50001", "127.0.0.1:5000")) == ["0xa1", "0xa3"]
    assert streams_to(listing, ()) == []
    assert streams_to(listing, None) == ["0xa1", "0xa3"]
    assert quote("a b;c\\") == "a\\ b\\;c\\\\"


@pytest.mark.parametrize(
    "address", ["8080", "localhost:80", "::1:80", "[127.0.0.1]:80", "1.2.3.4:0", "1.2.3.4:99999", ""]
)
def test_an_address_that_is_none_is_refused(address: str):
    with pytest.raises(ValueError, match="is not an address: use"):
        split_address(address)
    assert split_address("[::1]:8080") == ("::1", 8080)


def settings(directory: Path, **more: object) -> GatewaySettings:
    values: dict[str, object] = {
        "directory": directory,
        "gateway_id": "gw",
        "listen": ("127.0.0.1:8080", "[::1]:8080"),
        "parent": "apps.example.com",
        "database": "postgresql://canary-of-a-password@127.0.0.1/x",
        "probe_secret": "canary-of-a-secret",
        "static": {"hub.example.org": "127.0.0.1:9000"},
    }
    return GatewaySettings(**(values | more))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "wrong",
    [
        {"parent": "Apps.localhost"},
        {"parent": "a b"},
        {"listen": ()},
        {"listen": ("8080",)},
        {"static": {"hub": "x"}},
        {"static": {"hub\nbackend": "127.0.0.1:1"}},
        {"probe_secret": "short"},
        {"probe_secret": "with blanks and more of them"},
        {"gateway_id": "a b"},
        {"hold": 0.2},
        {"trusted": ("10.0.0.1/8",)},
        {"trusted": ("10.0.0.0/8 }",)},
        {"trusted": ("proxy.example",)},
        {"trusted_by": "faith"},
        {"trusted_by": "proxy-protocol"},
        {"listen_tls": ("0.0.0.0:8443",)},
        {"listen_tls": ("0.0.0.0:8443",), "certificate": "tls.crt"},
        {"listen_tls": ("0.0.0.0:8443",), "certificate": "/a b/tls.crt"},
        {"listen_tls": ("8443",), "certificate": "/tls.crt"},
    ],
)
def test_settings_that_would_say_something_else_to_haproxy_are_refused(tmp_path: Path, wrong: dict[str, object]):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        settings(tmp_path, **wrong)


def test_what_is_written_is_private_complete_and_read_back(tmp_path: Path):
    directory = tmp_path / "gateway"
    made = settings(directory)
    write_config(made)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    # A placeholder that nothing filled would be read by HAProxy as it stands.
    for name in ("haproxy.cfg", "gateway.lua"):
        assert re.findall(r"@[A-Z_]+@", (directory / name).read_text()) == []
    assert GatewaySettings.from_json((directory / "agent.json").read_text()) == made
    assert "canary" not in repr(made)
    for command in (haproxy_command(made), agent_command(made)):
        assert "canary" not in " ".join(command)
    # Yesterday's routes must not come back with HAProxy.
    (directory / "hosts.map").write_text(f"a.apps.localhost {TEXT}\n")
    write_config(made)
    assert (directory / "hosts.map").read_text() == ""


def test_pages_ask_nobody_else_and_escape_what_they_show():
    for page in (pages.waking_page('<script>"x"'), pages.refusal_page(pages.UNKNOWN)):
        assert "<script>&quot;" not in page
        assert '<script>"x"' not in page
        assert not re.findall(r"(?:src|href)=|url\(|https?://", page)
        assert "prefers-color-scheme:dark" in page
        policy_ = pages.policy(page)
        assert "'unsafe" not in policy_
        assert page.count("<script>") == policy_.split("script-src")[1].split(";")[0].count("sha256")


def test_a_problem_has_the_members_of_rfc_9457():
    document = json.loads(pages.problem(pages.NOT_WAKEABLE))
    assert document.items() >= {"type": "urn:innkeeper:not-wakeable", "status": 503, "retry_after": 30}.items()
    assert {"title", "detail"} <= document.keys()
