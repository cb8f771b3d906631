"""By whose certificates those outside are verified, where they speak TLS: the issuer (oidc.py) and the mail relay.

The system's authorities always; besides them those of one file, such as a private authority's (INN_TRUSTED_CA_FILE).
PostgreSQL and Kubernetes name theirs in connection string and kubeconfig.
"""

import ssl
from pathlib import Path

from innkeeper.model.errors import InvalidInput


def check_trusted(trusted: Path | None) -> None:
    """``InvalidInput`` for a file that cannot be read or holds no certificate, so that a process ends at its start."""
    if trusted is not None:
        _add(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trusted)


def client_context(trusted: Path | None) -> ssl.SSLContext:
    """Reading the authorities takes milliseconds and a few MB."""
    context = ssl.create_default_context()
    if trusted is not None:
        _add(context, trusted)
    return context


def _add(context: ssl.SSLContext, trusted: Path) -> None:
    try:
        context.load_verify_locations(trusted)
    except ssl.SSLError:
        why = "holds no certificate (PEM)"
    except OSError as error:
        why = f"cannot be read: {error.strerror or error}"
    else:
        return
    raise InvalidInput(f"the trusted certificates' file {trusted} {why}", field="INN_TRUSTED_CA_FILE")


def not_trusted(error: BaseException | None) -> str:
    """In words, where an error comes from a certificate that was not verified; empty for any other."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"shows a certificate that is not trusted ({error.verify_message.removesuffix('.')})"
        error = error.__cause__ or error.__context__
    return ""
