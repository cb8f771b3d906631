"""What counts as left on a machine by the cluster: infra/cluster/compare.py, which is run as part of a folder."""

import runpy
from pathlib import Path
from typing import Any

import pytest

COMPARE = Path(__file__).parents[2] / "infra" / "cluster" / "compare.py"

BEFORE: dict[str, Any] = {
    "links": ["eth0", "inn-out0", "lo"],
    "netns": ["inn-outside"],
    "nft": ["table ip filter {", "\tchain FORWARD {", "\t}", "}"],
    "settings": {"vm/overcommit_memory": "0", "net/ipv4/ip_forward": "1"},
}


def added(**after: Any) -> list[str]:
    return runpy.run_path(str(COMPARE))["added"](BEFORE, BEFORE | after)


def test_as_before_is_clean():
    assert added() == []


def test_what_a_killed_run_had_left_may_go():
    assert added(links=["eth0", "lo"], netns=[], nft=[]) == []


def test_settings_that_came_with_a_module_are_no_trace():
    came = {"net/netfilter/nf_conntrack_max": "262144", "net/bridge/bridge-nf-call-iptables": "1"}
    assert added(settings=BEFORE["settings"] | came) == []


def test_settings_that_went_with_a_module_are_no_trace():
    assert added(settings={"vm/overcommit_memory": "0"}) == []


@pytest.mark.parametrize(
    ("after", "lines"),
    [
        ({"links": [*BEFORE["links"], "cni0"]}, ["links: cni0"]),
        ({"links": ["eth0", "lo", "cni0"]}, ["links: cni0"]),
        ({"mounts": ["/run/netns/cni-1"]}, ["mounts: /run/netns/cni-1"]),
        # The same line once more, in another chain.
        ({"nft": [*BEFORE["nft"][:2], "\tchain FORWARD {", *BEFORE["nft"][2:]]}, ["nft: chain FORWARD {"]),
        (
            {"settings": {"vm/overcommit_memory": "1", "net/ipv4/ip_forward": "1"}},
            ["settings: vm/overcommit_memory is 1, was 0"],
        ),
    ],
)
def test_what_is_more_is_named(after: dict[str, Any], lines: list[str]):
    assert added(**after) == lines
