"""A real browser: Debian's Chromium driven by Playwright. A pytest plugin; skipped, loudly, where there is none.

`page_of(...)` makes a page that fails its test if anything off this machine is asked for. Screenshots are kept in
test-artifacts/screenshots, to be looked at.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from support.loopback_only import is_loopback

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # One process for the pages of a context, not one for each host and a spare one for the next: they are most of what
    # a browser costs, and which process draws a page changes nothing that it may do.
    "--disable-site-isolation-trials",
    "--renderer-process-limit=1",
]

SCREENSHOTS = Path(__file__).parents[2] / "test-artifacts" / "screenshots"

PATIENCE = 90_000
"""Milliseconds until an expectation, or a page, fails: only how long a failure takes."""

MOST_SHIFT = 0.05
"""Cumulative layout shift; up to 0.1 counts as good (web.dev)."""

DESKTOP = {"width": 1180, "height": 800}
PHONE = {"width": 375, "height": 740}


@pytest.fixture(scope="module")
def browser_arguments() -> list[str]:
    """For a module whose pages are not where their addresses say: what else the browser is started with."""
    return []


@pytest.fixture(scope="module")
def chromium(browser_arguments: list[str]) -> Iterator[Browser]:
    """One browser a module: while Playwright runs, its event loop holds this thread, and nobody else can have one."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("no Chromium: apt-get install chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=[*ARGUMENTS, *browser_arguments], timeout=PATIENCE
        )
        yield browser
        browser.close()


@pytest.fixture
def page_of(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """A factory of pages in a context (cookies, size, colours) of their own."""
    contexts = []
    foreign: list[str] = []
    complaints: list[str] = []

    def make(**options: Any) -> Page:
        merged: dict[str, Any] = {"viewport": DESKTOP} | options
        context = chromium.new_context(**merged)
        contexts.append(context)
        context.add_init_script(_MEASURE_SHIFTS)
        page = context.new_page()
        page.on("request", lambda request: foreign.append(request.url) if _is_foreign(request.url) else None)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.set_default_timeout(PATIENCE)
        return page

    yield make
    for context in contexts:
        context.close()
    assert foreign == [], "a page asked for something off this machine"
    # Refused content would be named here by the content security policy; answers with an error status are expected.
    assert [text for text in complaints if "Failed to load resource" not in text] == []


_MEASURE_SHIFTS = """
    window.shifts = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
    }).observe({type: "layout-shift", buffered: true});
"""


def fits(page: Page) -> None:
    """Nothing is wider than the window, and nothing jumped while the page came together."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    shifted = page.evaluate("window.shifts")
    assert shifted < MOST_SHIFT, f"the layout jumped: {shifted:.3f}"


def shot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def _is_foreign(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme not in {"data", "blob", "about"} and not is_loopback(parts.hostname)
