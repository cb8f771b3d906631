"""Users, members, pending sign-ins and browser sessions. Called by the hub.

Secrets that browsers hold (state, session ids, the cookie that binds a sign-in to its browser) are stored as SHA-256
only: they are 256 random bits, so nothing slower is needed, and a copy of the tables signs nobody in.
"""

import hashlib
from typing import Any, cast

from psycopg import sql

from innkeeper.model import ids
from innkeeper.model.people import (
    SESSION_IDLE,
    SESSION_LIFE,
    SESSION_TOUCH,
    SIGN_IN_LIFE,
    BrowserSession,
    Membership,
    PendingSignIn,
    Role,
    User,
)
from innkeeper.store.session import Session

# --- users and members -----------------------------------------------------------------------------------------------


def upsert_user(session: Session, *, issuer: str, subject: str, email: str, name: str) -> User:
    """The user of that identity, made at the first sign-in; e-mail and name follow the issuer."""
    row = session.execute(
        "INSERT INTO users (id, issuer, subject, email, name) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT ON CONSTRAINT users_identity_unique DO UPDATE SET email = excluded.email, name = excluded.name"
        " RETURNING id, issuer, subject, email, name",
        (ids.prefixed("usr"), issuer, subject, email, name),
    ).fetchone()
    return User(**cast("dict[str, str]", row))


def memberships(session: Session, user_id: str) -> list[Membership]:
    """The customers a user belongs to, by name."""
    rows = session.execute(
        "SELECT m.customer_id, c.name AS customer_name, m.role FROM members m JOIN customers c ON c.id = m.customer_id"
        " WHERE m.user_id = %s ORDER BY c.name",
        (user_id,),
    ).fetchall()
    return [Membership(row["customer_id"], row["customer_name"], Role(row["role"])) for row in rows]


def add_member(session: Session, *, customer_id: str, user_id: str, role: Role) -> None:
    """Make a user a member; the same again changes nothing."""
    session.execute(
        "INSERT INTO members (customer_id, user_id, role) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        (customer_id, user_id, role.value),
    )


def lock_user(session: Session, user_id: str) -> None:
    """Let one transaction at a time decide about this user (two sign-up forms sent at once make one customer)."""
    session.execute("SELECT 1 FROM users WHERE id = %s FOR UPDATE", (user_id,))


# --- pending sign-ins ------------------------------------------------------------------------------------------------


def begin_sign_in(session: Session, *, state: str, browser: str, nonce: str, verifier: str, return_to: str) -> None:
    """Keep what the answer will be checked against, for one browser. Those whose time is over go."""
    session.execute("DELETE FROM sign_ins WHERE expires_real_at < clock_timestamp()")
    session.execute(
        "INSERT INTO sign_ins (state_hash, browser_hash, nonce, verifier, return_to, expires_real_at)"
        " VALUES (%s, %s, %s, %s, %s, clock_timestamp() + %s)",
        (_digest(state), _digest(browser), nonce, verifier, return_to, SIGN_IN_LIFE),
    )


def take_sign_in(session: Session, *, state: str, browser: str) -> PendingSignIn | None:
    """The pending sign-in, once: None when it was taken, is too old, or was begun in another browser."""
    row = session.execute(
        "DELETE FROM sign_ins WHERE state_hash = %s AND browser_hash = %s AND expires_real_at > clock_timestamp()"
        " RETURNING nonce, verifier, return_to",
        (_digest(state), _digest(browser)),
    ).fetchone()
    return None if row is None else PendingSignIn(**row)


# --- browser sessions ------------------------------------------------------------------------------------------------


def open_session(session: Session, *, user_id: str, session_id: str, csrf: str) -> None:
    """A signed-in browser from now on. The user's sessions whose time is over go."""
    session.execute(
        sql.SQL("DELETE FROM sessions WHERE user_id = %(user)s AND NOT ({})").format(_ALIVE),
        {"user": user_id, "idle": SESSION_IDLE},
    )
    session.execute(
        "INSERT INTO sessions (id_hash, user_id, csrf, expires_real_at) VALUES (%s, %s, %s, clock_timestamp() + %s)",
        (_digest(session_id), user_id, csrf, SESSION_LIFE),
    )


def find_session(session: Session, session_id: str, *, touch: bool = True) -> BrowserSession | None:
    """The session of that cookie if it is alive; with ``touch``, asking keeps it alive until its absolute end."""
    key = {"id": _digest(session_id), "idle": SESSION_IDLE, "touch": SESSION_TOUCH}
    row = session.execute(
        sql.SQL(
            "SELECT s.csrf, s.seen_real_at < clock_timestamp() - %(touch)s AS stale, u.id, u.issuer, u.subject,"
            " u.email, u.name FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id_hash = %(id)s AND {}"
        ).format(_ALIVE),
        key,
    ).fetchone()
    if row is None:
        return None
    if touch and row["stale"]:
        session.execute("UPDATE sessions SET seen_real_at = clock_timestamp() WHERE id_hash = %(id)s", key)
    return BrowserSession(_user(row), row["csrf"])


def close_session(session: Session, session_id: str) -> None:
    """Sign that browser out."""
    session.execute("DELETE FROM sessions WHERE id_hash = %s", (_digest(session_id),))


def close_sessions_of(session: Session, user_id: str) -> int:
    """Sign a user out everywhere; how many browsers that were."""
    return session.execute("DELETE FROM sessions WHERE user_id = %s", (user_id,)).rowcount


def prune(session: Session) -> int:
    """Forget sign-ins never finished and sessions that have ended; how many sessions that were."""
    session.execute("DELETE FROM sign_ins WHERE expires_real_at < clock_timestamp()")
    ended = session.execute(sql.SQL("DELETE FROM sessions WHERE NOT ({})").format(_ALIVE), {"idle": SESSION_IDLE})
    return ended.rowcount


_ALIVE = sql.SQL("expires_real_at > clock_timestamp() AND seen_real_at > clock_timestamp() - %(idle)s")


def _user(row: dict[str, Any]) -> User:
    return User(row["id"], row["issuer"], row["subject"], row["email"], row["name"])


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
