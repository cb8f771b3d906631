"""Derived credentials: the same for the same activation, different for every other, and what RFC 7677 computes."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.model.credentials import activation_password, activation_verifier, scram_verifier
from innkeeper.model.workspace import ActivationRef

KEY = bytes(range(32))
REF = ActivationRef("0123456789abcdef", 3)
PASSWORD = activation_password(KEY, REF)


def test_the_example_of_rfc_7677():
    # user "user", password "pencil"; its messages imply these keys (checked against a server in tests/contract).
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    verifier = scram_verifier("pencil", salt, 4096)
    assert verifier == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_the_same_activation_has_the_same_credentials():
    assert activation_password(KEY, REF) == activation_password(KEY, REF)
    assert activation_verifier(KEY, REF, PASSWORD) == activation_verifier(KEY, REF, PASSWORD)


def test_the_password_needs_no_quoting_and_has_256_bits():
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", activation_password(KEY, REF))


refs = st.builds(ActivationRef, st.text("0123456789abcdef", min_size=1, max_size=16), st.integers(0, 10**6))


@given(first=refs, second=refs)
def test_different_activations_have_different_passwords(first: ActivationRef, second: ActivationRef):
    assert (activation_password(KEY, first) == activation_password(KEY, second)) == (first == second)


def test_another_key_another_password():
    assert activation_password(KEY, REF) != activation_password(KEY[::-1], REF)


def test_password_and_salt_are_unrelated():
    salt = activation_verifier(KEY, REF, PASSWORD).split(":")[1].split("$")[0]
    assert salt.rstrip("=") not in activation_password(KEY, REF)


def test_a_short_key_is_a_programming_error():
    with pytest.raises(ValueError, match="at least 32 bytes"):
        activation_password(b"short", REF)


def test_a_password_beyond_ascii_is_refused():
    with pytest.raises(UnicodeEncodeError):
        scram_verifier("pässword", b"salt")
