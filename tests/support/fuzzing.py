"""Requests that Schemathesis makes from docs/openapi.json, right and wrong. Used by test_admin_document.py and soak.

It is imported where it is used: that takes half a second, and every worker reads this file.
"""

import warnings
from collections import Counter
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import HypothesisDeprecationWarning, Unsatisfiable

from innkeeper.admin.app import description
from support.admin import Served


def operations() -> list[tuple[str, str]]:
    return [(method, path) for path, methods in description()["paths"].items() for method in methods]


def fuzz(served: Served, *, requests: int, starting_from: int) -> tuple[Counter[int], list[str]]:
    """About so many, over all addresses: how many were answered with each status, and what was wrong with answers.

    ``starting_from``: the seed.
    """
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.core.failures import FailureGroup
    from schemathesis.core.result import Ok
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    # What the document allows may still be refused: a name of spaces, a customer that is not there.
    excluded = [positive_data_acceptance]
    schema = schemathesis.openapi.from_dict(description())
    schema.hook("filter_query")(has_no_object)
    headers = {"Authorization": f"Bearer {served.token()}"}
    each = max(2, requests // len(operations()))
    sent: Counter[int] = Counter()
    wrong: list[str] = []
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(starting_from)
            @settings(
                max_examples=each // 2, deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def probe(case: Any) -> None:
                response = case.call(base_url=served.url, headers=headers, timeout=30)
                sent[response.status_code] += 1
                if response.status_code >= 500 and not intended(response):
                    wrong.append(f"{case.as_curl_command()}\n{response.status_code} {response.text}")
                try:
                    case.validate_response(response, excluded_checks=excluded, headers=headers)
                except (AssertionError, FailureGroup) as failure:
                    wrong.append(str(failure))

            # Nothing can be sent wrongly to an address that takes nothing.
            with suppress(Unsatisfiable), warnings.catch_warnings():
                # Hypothesis sees that the state of `random` moved while it drew: the served API's pool asks it, too.
                warnings.filterwarnings("ignore", "Do not use the `random` module", HypothesisDeprecationWarning)
                probe()
    return sent, wrong


def has_no_object(_context: Any, query: dict[str, Any] | None) -> bool:
    """An object is sent as its keys, so as text. Schemathesis knows that only where nothing else of a case is wrong."""
    return not any(isinstance(value, dict) for value in (query or {}).values())


def intended(response: Any) -> bool:
    """A 5xx that says what to do."""
    kinds = ("no-capacity", "clock-in-doubt", "breaker-open", "temporary")
    return str(response.json().get("type", "")).rpartition("/")[2] in kinds
