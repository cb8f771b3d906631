"""The README's five minutes: every command of them, in order, as it stands there, and what its comment promises.

`inn` is the product's own command; what `curl` asks is asked here, since not every machine has it.
"""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.dev_stack import PARENT, Ran, Stack

pytest_plugins = ["support.dev_stack"]
pytestmark = [pytest.mark.xdist_group("e2e-readme"), pytest.mark.timeout(300)]

README = Path(__file__).parents[2] / "README.md"


def tour() -> list[tuple[str, str]]:
    """(command, its comment) of the block."""
    text = README.read_text(encoding="utf-8").partition("## Five minutes")[2].partition("\n## ")[0]
    block = text.split("```")[1].strip()
    lines = [line for line in block.splitlines() if line and not line.startswith("export ")]
    return [(command.strip(), comment.strip()) for command, _, comment in (line.partition("  #") for line in lines)]


def curl(stack: Stack, words: Sequence[str]) -> str:
    """Its answer; with -i status and headers too. What else it might be told is a fault of this test."""
    method, host, shown, rest = "GET", "", "", list(words)
    while rest[:-1]:
        match rest.pop(0):
            case "-X":
                method = rest.pop(0)
            case "-H":
                name, host = rest.pop(0).split(": ")
                assert name == "Host"
            case "-i":
                shown = "-i"
            case other:
                raise AssertionError(other)
    port, slash, path = rest[0].removeprefix("localhost:").partition("/")
    assert port == "8080"
    reply = stack.ask(host.removesuffix(f".{PARENT}"), slash + path, method=method)
    return f"HTTP/1.1 {reply.status}\n{reply.text}" if shown else reply.text


def typed(stack: Stack, command: str) -> str:
    program, *words = shlex.split(command)
    if program == "curl":
        return curl(stack, words)
    assert program == "inn"
    ran: Ran = stack.inn(*words)
    return ran.out


def test_each_command_of_the_tour_does_what_its_comment_says(stack: Stack):
    said = [(command, comment, typed(stack, command)) for command, comment in tour()]
    assert len(said) >= 12
    assert [(command, out) for command, _, out in said if not out.strip()] == []
    counted = [(comment, json.loads(out)["count"]) for command, comment, out in said if "/count" in command]
    assert [re.findall(r": (\d+)$", comment) for comment, _ in counted] == [[str(number)] for _, number in counted]
    assert len(counted) == 2
    shown = {command: out for command, _, out in said}
    assert " deactivated " in shown["inn workspace list"]
    assert "purged" in shown["inn workspace show globex"]
    (gone,) = [out for command, _, out in said if command.startswith("curl -i")]
    assert gone.startswith("HTTP/1.1 410")
    assert "holds" in shown["inn audit verify"]
    assert shown["inn drift"] == "everything is as the rows say\n"
