"""Python's garbage collector looks at what tests make, not at what was imported for them. A pytest plugin.

With the tests and all that they import there are a million objects that stay to the end. Each full collection would
go through them, pytest's own at the end of a session five times.
"""

import gc

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    gc.enable()
