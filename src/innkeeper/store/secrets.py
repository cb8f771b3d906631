"""The secrets an application keeps for life, sealed. Opened only to start it, or for its owner."""

from innkeeper.store.session import Later, Session


def insert(session: Session, *, workspace_id: str, name: str, sealed: bytes, show_owner: bool) -> None:
    """A secret made at the workspace's creation; the same for life."""
    session.execute(
        "INSERT INTO workspace_secrets (workspace_id, name, sealed, show_owner) VALUES (%s, %s, %s, %s)",
        (workspace_id, name, sealed, show_owner),
    )


def sealed(session: Session, workspace_id: str) -> dict[str, bytes]:
    """All of a workspace's secrets by name, sealed."""
    return ask(session, workspace_id)()


def ask(session: Session, workspace_id: str) -> Later[dict[str, bytes]]:
    """``sealed``, among other questions of a pipeline."""
    asked = session.execute("SELECT name, sealed FROM workspace_secrets WHERE workspace_id = %s", (workspace_id,))
    return lambda: {row["name"]: bytes(row["sealed"]) for row in asked.fetchall()}


def shown_to_owner(session: Session, workspace_id: str) -> list[str]:
    """Names of the secrets that the app's vendor lets the owner see."""
    rows = session.execute(
        "SELECT name FROM workspace_secrets WHERE workspace_id = %s AND show_owner ORDER BY name", (workspace_id,)
    ).fetchall()
    return [row["name"] for row in rows]


def erase(session: Session, workspace_id: str) -> None:
    """With the purge they go, too."""
    session.execute("DELETE FROM workspace_secrets WHERE workspace_id = %s", (workspace_id,))
