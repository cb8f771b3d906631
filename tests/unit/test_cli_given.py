"""What is given on a command line means what Typer's own validators make of it, found without them."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.exceptions import TyperException

from innkeeper.cli import given
from innkeeper.cli.main import NOUNS, Nouns


class Colour(Enum):
    RED = "red"
    DARK_RED = "dark-red"


def command() -> Any:
    """Every kind of parameter that `inn` has, and a few that it has not."""
    app = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})

    @app.command()
    def take(  # noqa: PLR0917 - parameters of a command
        place: Annotated[str, typer.Argument()] = "here",
        text: str | None = None,
        number: int | None = None,
        bounded: Annotated[int, typer.Option(min=1, max=9)] = 5,
        part: Annotated[float | None, typer.Option(min=0.1)] = None,
        colour: Colour = Colour.RED,
        word: Literal["table", "json"] = "table",
        path: Path | None = None,
        there: Annotated[Path | None, typer.Option(exists=True)] = None,
        parsed: Annotated[str | None, typer.Option(parser=str.upper)] = None,
        many: list[str] | None = None,
        flag: bool = False,
    ) -> dict[str, Any]:
        return dict(locals())

    return typer.main.get_command(app)


def outcome(made: Any, words: list[str]) -> object:
    try:
        found = made.main(words, prog_name="inn", standalone_mode=False)
    except TyperException as error:
        return type(error), error.format_message()
    return {name: (type(value), value) for name, value in found.items()}


@pytest.mark.parametrize(
    "words",
    [
        [], ["there"], [""], ["--text", "x"], ["--text", ""], ["--text", "ä\n"], ["--parsed", "x"], ["--flag"],
        ["--number", "7"], ["--number", "007"], ["--number", "-7"], ["--number", "1_000"], ["--number", " 7"],
        ["--number", "7.0"], ["--number", "\u0667"], ["--number", "²"], ["--number", "x"], ["--number", ""],
        ["--number", "9" * 30], ["--number", "9" * 5000], ["--bounded", "3"], ["--bounded", "0"], ["--bounded", "x"],
        ["--part", "1.5"], ["--part", "0"], ["--part", "nan"],
        ["--colour", "dark-red"], ["--colour", "DARK_RED"], ["--colour", "Red"], ["--colour", "blue"],
        ["--word", "json"], ["--word", "JSON"], ["--word", "yaml"],
        ["--path", "/nowhere/at/all"], ["--path", ""], ["--path", "/"], ["--path", "a//b/../c"],
        ["--there", "/nowhere"], ["--there", "/"], ["--many", "a", "--many", "b"], ["--none"], ["a", "b"],
    ],
)  # fmt: skip
def test_it_is_what_typer_makes_of_it(words: list[str]):
    lean = command()
    given.lean(lean)
    assert outcome(lean, words) == outcome(command(), words)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    lean = command()
    given.lean(lean)
    refused = outcome(lean, ["--path", str(tmp_path)])
    assert "not readable" in str(refused)
    assert refused == outcome(command(), ["--path", str(tmp_path)])


def test_every_noun_of_inn_is_prepared():
    nouns = Nouns(name="inn")
    nouns._using = True
    for name in NOUNS:
        for verb in [noun := nouns.get_command(None, name), *getattr(noun, "commands", {}).values()]:
            parameters = verb.get_params(typer.Context(verb))
            assert parameters
            assert {type(parameter._runtime_param) for parameter in parameters} == {given._Plainly}
