"""docs/openapi.json says what the code does: compared with it, and real answers are held to it by fuzzing."""

import json
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from innkeeper.admin.app import description
from innkeeper.admin.problems import PREFIX, STATUS
from innkeeper.cli.exits import CODES
from innkeeper.model import errors
from support.admin import Served

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"

EXAMPLES = int(os.environ.get("INN_FUZZ_EXAMPLES", "200"))
"""Requests that the fuzzer sends altogether; `make soak` sends 20,000."""


EXCLUDED = [positive_data_acceptance]
"""What the document allows may still be refused: a name of spaces, a customer that is not there."""


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


def operations() -> list[tuple[str, str]]:
    return [(method, path) for path, methods in description()["paths"].items() for method in methods]


def test_the_document_has_every_address_once():
    assert len(operations()) > 40
    ids = [operation["operationId"] for methods in description()["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.timeout(600)
def test_fuzzed_requests_never_meet_a_defect(served_admin: Served):
    """Schemathesis makes requests from the document, right and wrong: no 5xx but the intended, every answer as said."""
    served_admin.admin.workspace("acme")
    schema = schemathesis.openapi.from_dict(description())
    headers = {"Authorization": f"Bearer {served_admin.token()}"}
    each = max(2, EXAMPLES // len(operations()))
    sent: Counter[int] = Counter()
    wrong: list[str] = []
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(20261124)
            @settings(
                max_examples=each // 2, deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def probe(case: Any) -> None:
                response = case.call(base_url=served_admin.url, headers=headers, timeout=30)
                sent[response.status_code] += 1
                if response.status_code >= 500 and not intended(response):
                    wrong.append(f"{case.as_curl_command()}\n{response.status_code} {response.text}")
                try:
                    case.validate_response(response, excluded_checks=EXCLUDED, headers=headers)
                except (AssertionError, FailureGroup) as failure:
                    wrong.append(str(failure))

            with suppress(Unsatisfiable):  # nothing can be sent wrongly to an address that takes nothing
                probe()
    assert wrong == [], f"{len(wrong)} of {sum(sent.values())} requests:\n" + "\n".join(wrong)
    assert sum(sent.values()) >= EXAMPLES // 2, sent
    assert {kind // 100 for kind in sent} >= {2, 4}, sent


def intended(response: Any) -> bool:
    """A 5xx that says what to do."""
    kinds = ("no-capacity", "clock-in-doubt", "breaker-open", "temporary")
    return str(response.json().get("type", "")).rpartition("/")[2] in kinds
