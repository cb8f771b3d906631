"""What was not exercised is said at the end, never silent; with CI=true it is a failure. A pytest plugin.

A skip is how a test says that this machine lacks something (a browser, Go, root). The reason it gives is what people
read, so it says what is missing and how to get it: pytest.skip("no Chromium: apt-get install chromium").
"""

import os
from collections import Counter
from collections.abc import Generator, Mapping

import pytest

PREFIX = "not exercised here: "


def in_ci(environment: Mapping[str, str]) -> bool:
    return environment.get("CI", "").lower() in {"1", "true", "yes"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # An expected failure (xfail) is reported as skipped too, but it did run.
    if report.skipped and not hasattr(report, "wasxfail") and in_ci(os.environ):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and in_ci(os.environ):
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = reason_of(report)
    report.outcome = "failed"
    report.longrepr = f"skipped, and nothing may be skipped where CI=true: {reason}"


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The words given to pytest.skip(); pytest keeps them as (path, line, "Skipped: words")."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ").strip() or "no reason given"


def summary(reports: list[pytest.TestReport | pytest.CollectReport]) -> list[str]:
    """One line a reason, the most frequent first."""
    counted = Counter(reason_of(report) for report in reports)
    return [
        f"{PREFIX}{reason} ({count} {'test' if count == 1 else 'tests'})" for reason, count in counted.most_common()
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report, pytest.TestReport | pytest.CollectReport)
    ]
    for line in summary(skipped):
        terminalreporter.write_line(line, yellow=True)
