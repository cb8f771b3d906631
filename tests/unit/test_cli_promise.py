"""The names that users type: every command and option that was promised is there, under that name."""

import re
from collections.abc import Set as AbstractSet
from importlib import import_module
from typing import Any, get_args, get_type_hints

import pytest
import typer

from innkeeper.cli import production
from innkeeper.cli.main import NOUNS
from support.cli import run_here

EVERYWHERE = {"--url", "--token", "--data", "--output", "--timeout"}
CHANGE = {"--wait", "--yes", "--reason"}

PROMISED: dict[str, AbstractSet[str]] = {
    "dev": {"--data", "--port", "--app", "--instances", "--detach", "--output"},
    "dev stop": {"--data"},
    "dev reset": {"--data", "--yes", "--dry-run"},
    "dev user add": {"--data"},
    "doctor": EVERYWHERE,
    **dict.fromkeys(("clock show", "clock advance", "clock accept"), EVERYWHERE),
    "customer create": EVERYWHERE | {"--contact-name", "--contact-email", "--plan"},
    **dict.fromkeys(("customer list", "customer show"), EVERYWHERE),
    "workspace create": EVERYWHERE | {"--customer", "--plan", "--app", "--wait"},
    "workspace list": EVERYWHERE | {"--state", "--customer"},
    **dict.fromkeys(
        (f"workspace {verb}" for verb in ("deactivate", "wake", "retry", "hold", "release", "suspend", "resume")),
        EVERYWHERE | CHANGE,
    ),
    "workspace purge": EVERYWHERE | CHANGE | {"--dry-run"},
    **dict.fromkeys((f"workspace {verb}" for verb in ("show", "why", "logs", "events", "secret")), EVERYWHERE),
    **dict.fromkeys((f"operation {verb}" for verb in ("list", "show", "follow", "cancel")), EVERYWHERE),
    **dict.fromkeys((f"instance {verb}" for verb in ("list", "add", "cordon", "uncordon")), EVERYWHERE),
    **dict.fromkeys((f"cluster {verb}" for verb in ("list", "add", "cordon", "uncordon", "drain")), EVERYWHERE),
    **dict.fromkeys((f"app {verb}" for verb in ("list", "add", "show", "check")), EVERYWHERE),
    **dict.fromkeys((f"audit {verb}" for verb in ("list", "verify", "export")), EVERYWHERE),
    "token create": EVERYWHERE | {"--bootstrap"},
    **dict.fromkeys(("token list", "token revoke", "gateway list", "gateway remove"), EVERYWHERE),
    **dict.fromkeys(("breaker show", "breaker reset", "secrets reseal"), EVERYWHERE),
    "drift": EVERYWHERE | {"--fix"},
    **dict.fromkeys(("db upgrade", "db status", "serve"), frozenset[str]()),
}
"""Command -> options, as users were told; there may be more of both."""


def found(words: list[str]) -> Any:
    module, _, name = NOUNS[words[0]][0].partition(":")
    command: Any = typer.main.get_command(getattr(import_module(f"innkeeper.cli.{module}"), name))
    for word in words[1:]:
        command = command.commands[word]
    return command


@pytest.mark.parametrize("words", PROMISED)
def test_a_promised_command_takes_its_options(words: str):
    options = {text for parameter in found(words.split()).params for text in parameter.opts}
    assert PROMISED[words] <= options


@pytest.mark.parametrize("words", PROMISED)
def test_its_help_says_what_it_does(words: str):
    shown = run_here(*words.split(), "--help")
    assert (shown.code, shown.err) == (0, "")
    usage, said, *_ = [line.strip() for line in shown.out.splitlines() if line.strip()]
    assert usage.startswith(f"Usage: inn {words}")
    assert re.match(r"[A-Z]\w*,? \w+", said), said


def test_the_environment_says_what_no_option_does():
    given = {parameter.name: parameter.envvar for parameter in found(["workspace", "show"]).params if parameter.envvar}
    assert given == {"url": "INN_URL", "token": "INN_TOKEN", "data": "INN_DATA"}
    assert "INN_DATA" in {parameter.envvar for parameter in found(["dev"]).params}


def test_every_production_entry_point_has_its_name():
    assert {"admin", "hub", "worker", "gateway"} <= set(get_args(get_type_hints(production.run)["what"]))
