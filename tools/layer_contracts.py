"""An import-linter contract: what the modules of a layer may not import directly.

Called by `lint-imports` (pyproject.toml, [tool.importlinter]). The stock `forbidden` contract cannot say "nothing
outside the standard library", and its list of vendors would have to be kept in step with the dependencies by hand.
Direct imports are enough: the layers contract already forbids every indirect way up, and each lower layer has a
contract of its own.
"""

import sys
from typing import TYPE_CHECKING, cast

from importlinter import Contract, ContractCheck, fields, output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grimp import ImportGraph

ANY_VENDOR = "*"
"""Stands for every package outside the standard library and innkeeper itself."""

ROOT = "innkeeper"


class ImportsContract(Contract):
    """`source_modules` (with all below them) import none of `forbidden` (package names, or "*" for any vendor)."""

    type_name = "imports"

    source_modules = fields.ListField(subfield=fields.StringField())
    forbidden = fields.ListField(subfield=fields.StringField())

    def check(self, graph: "ImportGraph", verbose: bool) -> ContractCheck:  # noqa: FBT001 (the linter's signature)
        del verbose
        found = sorted(self._violations(graph))
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, line, imported in check.metadata["found"]:
            output.print_error(f"{importer}:{line} imports {imported}")

    def _violations(self, graph: "ImportGraph") -> "Iterator[tuple[str, int, str]]":
        # The class attributes describe the fields; on an instance they hold what the fields parsed.
        sources = cast("list[str]", self.source_modules)
        forbidden = cast("list[str]", self.forbidden)
        for importer in graph.modules:
            if not any(_inside(importer, source) for source in sources):
                continue
            for imported in graph.find_modules_directly_imported_by(importer):
                if any(_matches(imported, pattern) for pattern in forbidden):
                    for details in graph.get_import_details(importer=importer, imported=imported):
                        yield importer, details["line_number"], imported


def _inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _matches(module: str, pattern: str) -> bool:
    if pattern != ANY_VENDOR:
        return _inside(module, pattern)
    top = module.partition(".")[0]
    return top != ROOT and top not in sys.stdlib_module_names
