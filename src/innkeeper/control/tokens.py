"""Verbs on API tokens, and checking one that is presented. Called by the admin API, ``inn token`` and local mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from innkeeper.model import token as form
from innkeeper.model.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from innkeeper.model.token import Presented, Scope, Token
from innkeeper.store import audit
from innkeeper.store import tokens as store
from innkeeper.store.session import Session

_NOBODYS = form.digest("")
"""Compared with when the id is unknown, so that the answer takes as long."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who presented a valid token. ``touch``: its last use is to be noted (control of once a minute)."""

    actor: str
    token_id: str
    scopes: tuple[str, ...]
    touch: bool

    def may(self, needed: Scope) -> bool:
        """Whether its scopes include the needed one."""
        return form.covers(self.scopes, needed)


class KnownButRefused(Unauthenticated):
    """401 for a token whose secret was right: its refusals are audited under its name."""

    def __init__(self, message: str, *, actor: str) -> None:
        super().__init__(message)
        self.actor = actor


def authenticate(session: Session, sent: str | None) -> Caller:
    """Who sent this token; ``Unauthenticated`` (``KnownButRefused`` when it was a real one) otherwise."""
    if sent is None:
        raise Unauthenticated("a token is needed: send Authorization: Bearer inn_...")
    presented = form.parse(sent)
    return judge(presented, store.presented(session, presented.id) if presented is not None else None)


def judge(presented: Presented | None, row: Mapping[str, Any] | None) -> Caller:
    """Who presented it, by what the state database keeps of that id (None: nothing)."""
    proved = presented is not None and form.proves(presented, _NOBODYS if row is None else bytes(row["secret_hash"]))
    if row is None or not proved:
        raise Unauthenticated("this token is not known here: make one with inn token create")
    actor = f"token:{row['id']}"
    if row["revoked"]:
        raise KnownButRefused("this token was revoked: make another with inn token create", actor=actor)
    if row["expired"]:
        raise KnownButRefused("this token has expired: make another with inn token create", actor=actor)
    return Caller(actor, row["id"], tuple(row["scopes"]), bool(row["touch"]))


def create(
    session: Session, *, actor: str, name: str, scopes: Sequence[str], life: timedelta = form.LIFE
) -> tuple[Token, str]:
    """A new token and the text that is shown once. ``InvalidInput`` for a bad name, scope or life."""
    name = name.strip()
    if not 1 <= len(name) <= form.NAME_MAX or not name.isprintable():
        raise InvalidInput(f"a token's name has 1 to {form.NAME_MAX} printable characters", field="name")
    unknown = [scope for scope in scopes if scope not in list(Scope)]
    if unknown or not scopes:
        raise InvalidInput(f"a token's scopes are some of {', '.join(Scope)}", field="scopes")
    if not timedelta(minutes=1) <= life <= form.LIFE_MAX:
        raise InvalidInput(f"a token lives for 1 minute to {form.LIFE_MAX.days} days", field="expires_in")
    secret = form.fresh()
    ordered = [scope.value for scope in Scope if scope in scopes]
    token = store.insert(
        session,
        token_id=secret.id,
        name=name,
        secret_hash=form.digest(secret.secret),
        scopes=ordered,
        created_by=actor,
        life=life,
    )
    # The name is free text and may hold a person's; it stays out of the audit trail.
    audit.append(session, actor=actor, action="token.create", target=f"token:{token.id}", detail={"scopes": ordered})
    return token, form.text(secret)


def bootstrap(session: Session, *, life: timedelta = form.LIFE) -> tuple[Token, str]:
    """A new installation's first token, with every scope. Works once (DESIGN.md section 9); ``Conflict`` afterwards."""
    if not store.use_bootstrap(session):
        message = "this installation's bootstrap token was made already: make further ones with inn token create NAME"
        raise Conflict(message)
    return create(session, actor="bootstrap", name="bootstrap", scopes=[Scope.ADMIN], life=life)


def revoke(session: Session, *, actor: str, token_id: str) -> Token:
    """End a token. Revoking it again changes nothing; ``NotFound`` for an unknown id."""
    found = store.by_id(session, token_id)
    if found is None:
        raise NotFound(f"there is no token {token_id!r}: see inn token list")
    revoked = store.revoke(session, token_id)
    if revoked is None:
        return found
    audit.append(session, actor=actor, action="token.revoke", target=f"token:{token_id}")
    return revoked


def refused(session: Session, *, actor: str, action: str, why: str) -> None:
    """Note that someone we know was turned away. In a transaction of its own: the refused one was rolled back."""
    audit.append(session, actor=actor, action="refused", target=action, detail={"why": why})
