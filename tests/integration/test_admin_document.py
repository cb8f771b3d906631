"""docs/openapi.json says what the code does: compared with it, and real answers are held to it by fuzzing."""

import json
from pathlib import Path

import pytest

from innkeeper.admin.app import description
from innkeeper.admin.problems import PREFIX, STATUS
from innkeeper.cli.exits import CODES
from innkeeper.model import errors
from support.admin import Served
from support.fuzzing import fuzz, operations

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"

EXAMPLES = 200
"""Requests that the fuzzer sends altogether; `make soak` sends 20,000."""


def test_the_committed_document_is_that_of_the_code():
    now = json.dumps(description(), indent=2, sort_keys=True) + "\n"
    assert COMMITTED.read_text() == now, "run: .venv/bin/python -m innkeeper.admin.app > docs/openapi.json"


def test_every_error_of_ours_has_a_problem_type_and_an_exit_code():
    def slugs(kind: type[errors.InnkeeperError]) -> set[str]:
        return {kind.slug}.union(*(slugs(below) for below in kind.__subclasses__()))

    told = slugs(errors.Refused) - {errors.Refused.slug}
    assert told <= set(STATUS)
    assert {slug for slug in STATUS if slug not in CODES} == set()
    assert PREFIX.startswith("https://")


def test_the_document_has_every_address_once():
    assert len(operations()) > 40
    ids = [operation["operationId"] for methods in description()["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.timeout(600)
def test_fuzzed_requests_never_meet_a_defect(served_admin: Served):
    """Schemathesis makes requests from the document, right and wrong: no 5xx but the intended, every answer as said."""
    served_admin.admin.workspace("acme")
    sent, wrong = fuzz(served_admin, requests=EXAMPLES, starting_from=20261124)
    assert wrong == [], f"{len(wrong)} of {sent.total()} requests:\n" + "\n".join(wrong)
    assert sent.total() >= EXAMPLES // 2, sent
    assert {kind // 100 for kind in sent} >= {2, 4}, sent
