"""What an activation logs in to its database with: derived, not stored. Called by control/steps/.

Password and salt are HMACs under the activation's sealed key, so a repeated step gives the same result, and once the
key is wiped nobody can derive them again. PostgreSQL is told the SCRAM verifier only.
"""

import hashlib
import hmac
from base64 import b64encode, urlsafe_b64encode

from innkeeper.model.workspace import ActivationRef

ITERATIONS = 4096
"""PostgreSQL's own default. More would slow every login and add nothing: the password has 256 random bits."""

MINIMUM_KEY = 32
"""Bytes. A shorter key is a programming error."""

_SALT_BYTES = 16


def activation_password(key: bytes, ref: ActivationRef) -> str:
    """The password of one activation: 43 characters that need no quoting in a URL, a shell or a file."""
    return urlsafe_b64encode(_derive(key, ref, "database password")).rstrip(b"=").decode()


def activation_verifier(key: bytes, ref: ActivationRef, password: str) -> str:
    """The SCRAM verifier of the activation's password: what the database server stores."""
    return scram_verifier(password, _derive(key, ref, "scram salt")[:_SALT_BYTES])


def scram_verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """``SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`` (RFC 5803), as in pg_authid.

    ASCII only: anything else would have to go through SASLprep first, and ours never needs it.
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    parts = (b64encode(part).decode() for part in (salt, stored_key, server_key))
    return "SCRAM-SHA-256${}:{}${}:{}".format(iterations, *parts)


def _derive(key: bytes, ref: ActivationRef, purpose: str) -> bytes:
    if len(key) < MINIMUM_KEY:
        raise ValueError(f"an activation's key has at least {MINIMUM_KEY} bytes")
    # The zero byte occurs in no part, so different triples never give the same message.
    message = "\0".join((purpose, ref.workspace_id, str(ref.generation)))
    return hmac.digest(key, message.encode(), "sha256")
