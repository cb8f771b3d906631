"""Slugs: what is refused says why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.model import slugs
from innkeeper.model.domain import Domain
from innkeeper.model.errors import InvalidInput


@pytest.mark.parametrize("slug", ["acme", "a1b", "acme-2-team", "a" * 40])
def test_good(slug):
    assert slugs.check(slug) == slug


@pytest.mark.parametrize(
    "slug",
    [
        "",
        "ab",
        "a" * 41,
        "Acme",
        "1acme",
        "acme-",
        "-acme",
        "ac--me",
        "acme.x",
        "äcme",
        "ac me",
        "hub",
        "admin",
        "ws-1",
        "xn--x",
        "acme\n",
    ],
)
def test_bad_and_reserved(slug):
    with pytest.raises(InvalidInput):
        slugs.check(slug)


@given(st.text(max_size=50))
def test_whatever_passes_is_one_dns_label(text):
    try:
        slugs.check(text)
    except InvalidInput:
        return
    host = Domain("apps.localhost").host(text)
    assert host.isascii()
    assert host == host.lower()
    assert len(host.split(".", maxsplit=1)[0]) <= 63
    assert host.count(".") == 2
