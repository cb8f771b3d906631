"""Reads a YAML document into plain mappings, lists and strings, refusing what would surprise. Called by appspec.py.

Every scalar stays the text that was written: YAML 1.1 turns ``version: 2.10`` into 2.1, ``yes`` into true and
``1e3`` into a number, and none of that is what a vendor means. Fields are given their types when they are checked.
"""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node, ScalarNode

Document: TypeAlias = "str | list[Document] | dict[str, Document]"

LARGEST = 64 * 1024
"""Bytes of a document. The longest sensible one is a few thousand."""


class UnreadableError(Exception):
    """Not YAML, or YAML that says two things at once; the text is one line with the place."""


def read(text: bytes) -> Document:
    if len(text) > LARGEST:
        raise UnreadableError(f"it has {len(text)} bytes; at most {LARGEST} are read")
    try:
        document = yaml.load(text.decode("utf-8"), _Loader)  # noqa: S506 - a BaseLoader makes strings, nothing else
    except UnicodeDecodeError as error:
        raise UnreadableError(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UnreadableError(f"{place}{', '.join(filter(None, (error.context, error.problem)))}") from None
    except yaml.YAMLError as error:
        raise UnreadableError(str(error).splitlines()[0]) from None
    except RecursionError:
        raise UnreadableError("it is nested too deeply") from None
    if document is None:
        raise UnreadableError("it is empty")
    return document


class _Loader(yaml.BaseLoader):
    def construct_mapping(self, node: "MappingNode", deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - as in the base class
        seen: set[object] = set()
        for key_node, _ in node.value:
            _refuse_twice(key_node, seen)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: "ScalarNode") -> str:
        """JSON writes what lies beyond U+FFFF as two escapes, which YAML reads as two halves of a character."""
        text = str(super().construct_scalar(node))
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise yaml.constructor.ConstructorError(
                problem="half a character (a lone surrogate) is written there; leave it out",
                problem_mark=node.start_mark,
            ) from None


def _refuse_twice(key: "Node", seen: set[object]) -> None:
    if not isinstance(key, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(problem="a key must be a plain word", problem_mark=key.start_mark)
    if key.value in seen:
        raise yaml.constructor.ConstructorError(
            problem=f"{key.value!r} is there twice; keep one", problem_mark=key.start_mark
        )
    seen.add(key.value)
