"""Messages and pages that name a command name one that there is."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import typer

from innkeeper.cli.main import NOUNS

ROOT = Path(__file__).parents[2]

_NAMED = re.compile(r"\binn ([a-z]+)(?: ([a-z]+(?:-[a-z]+)*))?")

WITHOUT_VERB = {"canary", "doctor", "drift", "serve", "dev"}
"""Nouns that do something by themselves; what follows them is an argument or the rest of a sentence."""


def verbs(noun: str) -> set[str]:
    module, _, name = NOUNS[noun][0].partition(":")
    group = typer.main.get_command(getattr(import_module(f"innkeeper.cli.{module}"), name))
    return set(getattr(group, "commands", {}))


def named() -> list[tuple[str, str, str | None]]:
    files = [path for kind in ("py", "html", "txt") for path in (ROOT / "src").rglob(f"*.{kind}")]
    files += [path for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")) if path.exists()]
    return [
        (str(path.relative_to(ROOT)), noun, verb)
        for path in files
        for noun, verb in _NAMED.findall(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("noun", [noun for noun in NOUNS if noun not in WITHOUT_VERB])
def test_a_noun_has_verbs(noun: str):
    assert verbs(noun)


def test_every_command_that_is_named_is_there():
    there = {noun: verbs(noun) for noun in NOUNS}
    found = named()
    assert len(found) > 50
    missing = [
        (path, f"inn {noun} {verb}".strip())
        for path, noun, verb in found
        if noun not in there or (noun not in WITHOUT_VERB and verb and verb not in there[noun])
    ]
    assert missing == []
