"""What is given on a command line becomes a value without pydantic, where that is plain. Called by main.py.

Typer makes one of pydantic's validators for each parameter of the command that runs, given or not, and importing
pydantic for it is most of what ``inn`` costs. What was not given, a text, a path, a whole number and one of a few words
need none. Whatever is not plainly one of these goes Typer's own way, with its messages.
"""

import os
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

NOT_PLAIN = object()

_DIGITS = 19
"""As many and more go Typer's own way: Python itself refuses numbers of thousands of them."""


def lean(command: Any) -> None:
    """Prepare a command, and all below it."""
    listed = command.get_params  # the command's own --help among them, which is made only now

    def get_params(context: Any) -> Sequence[Any]:
        return prepared(listed(context))

    command.get_params = get_params
    for below in getattr(command, "commands", {}).values():
        lean(below)


def prepared(parameters: Sequence[Any]) -> Sequence[Any]:
    """The same, each to be asked what is plain before it makes a validator."""
    for parameter in parameters:
        if parameter._runtime_param is None:  # noqa: SLF001 - where Typer keeps the validator
            parameter._runtime_param = _Plainly()  # noqa: SLF001
    return parameters


class _Plainly:
    """Stands where Typer keeps a parameter's validator, and makes room for it when a value needs one."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """As Typer calls it."""
        found = plain(value, param)
        if found is not NOT_PLAIN:
            return found
        param._runtime_param = None  # noqa: SLF001
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def plain(value: Any, parameter: Any) -> Any:
    """The value that is meant; ``NOT_PLAIN`` where Typer is to find that out, or to refuse."""
    wanted = parameter.type_descriptor
    kind, told = wanted.annotation, wanted.parameter_info
    if parameter.multiple or parameter.nargs != 1 or told.parser is not None:
        return NOT_PLAIN
    if value is None or (kind is str and isinstance(value, str)):
        return value
    if wanted.choices is not None:
        return next((one for one in wanted.choices if value == _word(one)), NOT_PLAIN)
    if kind is int and told.min is None and told.max is None:
        return _number(value)
    if kind is Path and not (told.exists or told.resolve_path or told.allow_dash or told.writable or told.path_type):
        return _path(value) if told.file_okay and told.dir_okay else NOT_PLAIN
    return NOT_PLAIN


def _word(choice: Any) -> Any:
    return choice.value if isinstance(choice, Enum) else choice


def _number(value: Any) -> Any:
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdecimal() and len(value) < _DIGITS else NOT_PLAIN
    return value if type(value) is int else NOT_PLAIN


def _path(value: Any) -> Any:
    """One that is there and may not be read is refused by Typer."""
    path = Path(value)
    return path if os.access(path, os.R_OK) or not path.exists() else NOT_PLAIN
