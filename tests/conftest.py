"""Fixtures and hooks for all tests. Fixtures live in tests/support/, one module a subject, and are named here."""

import os
import sys

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("support")

# Otherwise each of the many programs that tests start would compile all that it imports (the Makefile does the same).
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# No test fails by the clock: an example may take as long as a busy machine makes it take.
settings.register_profile("innkeeper", deadline=None, print_blob=True)
settings.load_profile("innkeeper")

pytest_plugins = [
    "support.admin",
    "support.cli",
    "support.cluster",
    "support.dev",
    "support.garbage",
    "support.gateway",
    "support.house",
    "support.kept",
    "support.kubernetes",
    "support.loopback_only",
    "support.outside",
    "support.memory",
    "support.pace",
    "support.postgres",
    "support.registry",
    "support.reporting",
    "support.scenarios",
    "support.small_disk",
    "support.state",
]
