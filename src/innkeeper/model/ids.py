"""Random identifiers. Names of external objects derive from a workspace's id: short, lower case and DNS-safe."""

import secrets


def workspace_id() -> str:
    """16 hexadecimal digits (64 random bits): ``ws-<id>-<generation>`` stays under 63 bytes for ever."""
    return secrets.token_hex(8)


def prefixed(prefix: str) -> str:
    """``prefix-`` and 20 hexadecimal digits."""
    return f"{prefix}-{secrets.token_hex(10)}"


_SPARE = "spare"


def spare_id() -> str:
    """Of a spare database: ``spare`` and 16 hexadecimal digits, which no workspace's id can be."""
    return f"{_SPARE}{secrets.token_hex(8)}"


def is_spare(name: str) -> bool:
    """Whether it is the id of a spare database, and not of a workspace."""
    return name.startswith(_SPARE)
