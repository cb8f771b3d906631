"""Messages and pages that name a command name one that there is."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from innkeeper.cli.main import NOUNS

ROOT = Path(__file__).parents[2]

_NAMED = re.compile(r"\binn ([a-z]+)(?: ([a-z]+(?:-[a-z]+)*))?")

WITHOUT_VERB = {"canary", "doctor", "drift", "serve", "dev"}
"""Nouns that do something by themselves; what follows them is an argument or the rest of a sentence."""


_WRITTEN = re.compile(r"`(inn [^`]+)`|^(inn .+?)(?:  +#.*)?$", re.MULTILINE)
"""A command as a page shows it: in a line of its own, or within one."""


def group(noun: str) -> Any:
    module, _, name = NOUNS[noun][0].partition(":")
    return typer.main.get_command(getattr(import_module(f"innkeeper.cli.{module}"), name))


def verbs(noun: str) -> set[str]:
    return set(getattr(group(noun), "commands", {}))


def options(words: list[str]) -> set[str]:
    """What the command that begins these words takes: of a noun's verbs, where several are named, of any."""
    command, taken = group(words[0]), set[str]()
    for word in words[1:]:
        inner = getattr(command, "commands", {})
        several = [inner[name] for name in word.split("|") if name in inner]
        if not several:
            break
        command = several[0]
        taken |= {text for one in several for parameter in one.params for text in parameter.opts}
    return taken | {text for parameter in command.params for text in parameter.opts}


def named() -> list[tuple[str, str, str | None]]:
    files = [path for kind in ("py", "html", "txt") for path in (ROOT / "src").rglob(f"*.{kind}")]
    files += [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    files += [path for kind in ("md", "txt", "yaml") for path in (ROOT / "helm").rglob(f"*.{kind}")]
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


def test_every_option_that_a_page_shows_is_there():
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "helm").rglob("*.md")]
    written = [
        (str(path.relative_to(ROOT)), "".join(found).removeprefix("inn ").split())
        for path in pages
        for found in _WRITTEN.findall(path.read_text(encoding="utf-8"))
    ]
    shown = [(path, words, set(re.findall(r"--[a-z][a-z-]+", " ".join(words)))) for path, words in written]
    assert sum(bool(named) for _, _, named in shown) > 20
    missing = [
        (path, " ".join(words), named - options(words)) for path, words, named in shown if named - options(words)
    ]
    assert missing == []
