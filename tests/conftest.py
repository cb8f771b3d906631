"""Fixtures and hooks for all tests. Fixtures live in tests/support/, one module a subject, and are named here."""

import pytest

pytest.register_assert_rewrite("support")

pytest_plugins = [
    "support.admin",
    "support.cli",
    "support.gateway",
    "support.house",
    "support.loopback_only",
    "support.postgres",
    "support.reporting",
    "support.scenarios",
    "support.state",
]
