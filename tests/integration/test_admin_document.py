"""docs/openapi.json says what the code does: compared with it, and real answers are held to it by fuzzing."""

import inspect
import json
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts

from innkeeper.admin.app import _bare, description
from innkeeper.admin.problems import PREFIX, STATUS
from innkeeper.admin.routing import CheckedRoute
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


def test_a_post_takes_a_key_if_its_endpoint_minds_it():
    """``call.once``, itself or through ``ask``: what only admits its caller would take a key and forget it."""
    endpoints = {
        context.path: inspect.getsource(context.original_route.endpoint)
        for context in iter_route_contexts(_bare().routes)
        if isinstance(context.original_route, CheckedRoute) and "POST" in (context.original_route.methods or ())
    }
    documented = {
        path: any(one.get("name") == "Idempotency-Key" for one in methods["post"].get("parameters", []))
        for path, methods in description()["paths"].items()
        if "post" in methods
    }
    assert documented.keys() == endpoints.keys()
    forgets = {path for path, source in endpoints.items() if "call.admit()" in source and "call.once(" not in source}
    assert {path for path, keyed in documented.items() if not keyed} == forgets
    assert forgets == {"/v1/audit/verify", "/v1/clusters/{cluster}/try", "/v1/drift/fix"}


@pytest.mark.timeout(600)
def test_fuzzed_requests_never_meet_a_defect(served_admin: Served):
    """Schemathesis makes requests from the document, right and wrong: no 5xx but the intended, every answer as said."""
    served_admin.admin.workspace("acme")
    sent, wrong = fuzz(served_admin, requests=EXAMPLES, starting_from=20261124)
    assert wrong == [], f"{len(wrong)} of {sent.total()} requests:\n" + "\n".join(wrong)
    assert sent.total() >= EXAMPLES // 2, sent
    assert {kind // 100 for kind in sent} >= {2, 4}, sent
