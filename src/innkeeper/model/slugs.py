"""What a workspace may be called. Pure; whether a slug is taken or tombstoned is the store's to say."""

import re

from innkeeper.model.errors import InvalidInput

MIN, MAX = 3, 40
"""Characters: leaves room for a parent domain in a 63-byte label and for names derived from it."""

RESERVED = frozenset(
    [
        "admin",
        "api",
        "app",
        "apps",
        "auth",
        "billing",
        "blog",
        "cdn",
        "console",
        "dashboard",
        "dev",
        "docs",
        "ftp",
        "help",
        "hub",
        "id",
        "idp",
        "imap",
        "inn",
        "innkeeper",
        "internal",
        "issuer",
        "localhost",
        "login",
        "mail",
        "metrics",
        "mx",
        "ns",
        "ns1",
        "ns2",
        "oauth",
        "oidc",
        "pop",
        "root",
        "security",
        "smtp",
        "sso",
        "static",
        "status",
        "support",
        "system",
        "test",
        "webmail",
        "ws",
        "www",
    ]
)

_FORM = re.compile(r"[a-z](?:-?[a-z0-9])*")


def check(slug: str) -> str:
    """The slug itself, or ``InvalidInput`` with what to change."""
    if not MIN <= len(slug) <= MAX:
        raise InvalidInput(f"a slug has {MIN} to {MAX} characters, this one {len(slug)}", field="slug")
    if not _FORM.fullmatch(slug):
        message = "a slug begins with a letter and holds only a-z, 0-9 and single hyphens between them"
        raise InvalidInput(message, field="slug")
    if slug in RESERVED or slug.startswith(("ws-", "xn-")):
        raise InvalidInput(f"the slug {slug} is reserved: choose another", field="slug")
    return slug
