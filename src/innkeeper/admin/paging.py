"""AIP-158 paging: ``page_size``, ``page_token``, ``next_page_token``. Tokens are opaque, and only ours are taken.

A token says where to go on and for which question; it is signed with the installation's own id, which no answer shows.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeAlias, TypeVar, cast

from fastapi import Query

from innkeeper.admin.call import Call, Reply
from innkeeper.model.errors import InvalidInput
from innkeeper.store.session import Session

T = TypeVar("T")

DEFAULT = 50
MOST = 1000
"""A larger ``page_size`` gets this many (AIP-158: never an error)."""

_MAC = 16

PageSize: TypeAlias = Annotated[
    int, Query(ge=0, le=2**31 - 1, description=f"Items a page: {DEFAULT} unless said, {MOST} at most")
]
PageToken: TypeAlias = Annotated[str, Query(description="next_page_token of the page before", max_length=1000)]


def page(
    session: Session,
    call: Call,
    *,
    size: int,
    token: str,
    fetch: Callable[[list[str] | None, int], Sequence[T]],
    place: Callable[[T], Sequence[str]],
    show: Callable[[T], Mapping[str, object]],
) -> Reply:
    """One page of a list: ``fetch(after, limit)`` in a fixed order, ``place(item)`` names where to go on behind it."""
    limit = min(size or DEFAULT, MOST)
    key = _key(session, call)
    after = _open(token, key) if token else None
    rows = list(fetch(after, limit + 1))
    body: dict[str, object] = {"items": [show(row) for row in rows[:limit]], "next_page_token": None}
    if len(rows) > limit:
        body["next_page_token"] = _seal(place(rows[limit - 1]), key)
    return Reply(body)


def few(
    session: Session,
    call: Call,
    *,
    size: int,
    token: str,
    rows: Sequence[T],
    name: Callable[[T], str],
    show: Callable[[T], Mapping[str, object]],
) -> Reply:
    """One page of a list that is short enough to be read whole, in order of a unique name."""
    ordered = sorted(rows, key=name)
    return page(
        session,
        call,
        size=size,
        token=token,
        fetch=lambda after, limit: [row for row in ordered if after is None or name(row) > after[0]][:limit],
        place=lambda row: [name(row)],
        show=show,
    )


def _key(session: Session, call: Call) -> bytes:
    """Differs by installation, path and filters: a token of another question is refused."""
    row = session.execute("SELECT id FROM installation").fetchone()
    filters = sorted(
        (name, value) for name, value in call.request.query_params.multi_items() if not name.startswith("page_")
    )
    question = json.dumps([call.request.url.path, filters])
    return hashlib.sha256(f"{cast('dict[str, str]', row)['id']}\n{question}".encode()).digest()


def _seal(place: Sequence[str], key: bytes) -> str:
    raw = json.dumps(list(place), separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_mac(raw, key) + raw).decode().rstrip("=")


def _open(token: str, key: bytes) -> list[str]:
    refusal = "this page_token was not given for this list: begin without one"
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(refusal, field="page_token") from None
    mac, raw = sealed[:_MAC], sealed[_MAC:]
    if not hmac.compare_digest(mac, _mac(raw, key)):
        raise InvalidInput(refusal, field="page_token")
    return cast("list[str]", json.loads(raw))


def _mac(raw: bytes, key: bytes) -> bytes:
    return hmac.digest(key, raw, "sha256")[:_MAC]
