"""/v1/audit: reading the chain, verifying it, exporting it."""

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from innkeeper.admin import routing, views
from innkeeper.admin.call import Reply, TheCall
from innkeeper.admin.paging import PageSize, PageToken, page
from innkeeper.admin.schemas import audit as s
from innkeeper.admin.streams import Lines
from innkeeper.model.audit import AuditRow, Head, verify
from innkeeper.model.token import Scope
from innkeeper.store import audit as store
from innkeeper.store.session import Database, Session

router = routing.router("audit")


def list_audit(
    call: TheCall,
    target: Annotated[str | None, Query(description="Only rows about this id")] = None,
    *,
    newest_first: Annotated[bool, Query(description="From the newest back")] = False,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Response:
    """Audit rows, oldest first unless said."""

    def query(session: Session) -> Reply:
        def fetch(after: list[str] | None, limit: int) -> list[AuditRow]:
            place = int(after[0]) if after else None
            if newest_first:
                return store.newest(session, before=place, limit=limit, target=target)
            return store.rows(session, after=place or 0, limit=limit, target=target)

        return page(
            session,
            call,
            size=page_size,
            token=page_token,
            fetch=fetch,
            place=lambda row: [str(row.seq)],
            show=views.audit,
        )

    return call.read(query)


def verify_audit(call: TheCall) -> Response:
    """Walk the whole chain: one JSON line a finding, then one with ``rows``, ``head``, ``anchors``, ``findings``."""
    call.admit()
    return Lines(_verdicts(call.services.database))


def verify_audit_anchored(call: TheCall, body: s.Anchors) -> Response:
    """The same, held against heads of the chain that were kept outside the database."""
    call.admit()
    anchors = [Head(one.seq, bytes.fromhex(one.hash)) for one in body.anchors]
    return Lines(_verdicts(call.services.database, anchors))


def _verdicts(database: Database, anchors: Sequence[Head] = ()) -> Generator[str]:
    rows = findings = 0
    # Whoever asked may leave in the middle: the cursor goes before its connection is another's.
    with database.snapshot() as session, closing(store.all_rows(session)) as chain:

        def counted() -> Iterator[AuditRow]:
            nonlocal rows
            for row in chain:
                rows += 1
                yield row

        head = store.head(session)
        for tamper in verify(counted(), head, anchors):
            findings += 1
            yield _line({"seq": tamper.seq, "finding": f"row {tamper.seq} {tamper.finding}"})
        yield _line({"rows": rows, "head": head.seq, "anchors": len(anchors), "findings": findings})


def export_audit(
    call: TheCall, after: Annotated[int, Query(ge=0, le=2**62, description="Only rows behind this number")] = 0
) -> Response:
    """The chain as JSON lines, oldest first. The export itself is audited."""

    def note(session: Session, actor: str) -> Reply:
        store.append(session, actor=actor, action="audit.export", target="audit", detail={"after": after})
        return Reply(None)

    call.once(note)
    return Lines(_export(call.services.database, after))


def _export(database: Database, after: int) -> Generator[str]:
    with database.snapshot() as session, closing(store.all_rows(session)) as chain:
        for row in chain:
            if row.seq > after:
                yield _line(views.audit(row))


def _line(value: views.Json) -> str:
    return json.dumps(value) + "\n"


routing.add(router, "GET", "/audit", list_audit, scope=Scope.READ, answer=s.AuditRows)
routing.add(router, "GET", "/audit/verify", verify_audit, scope=Scope.READ, answer=None, produces=Lines.media_type)
routing.add(
    router, "POST", "/audit/verify", verify_audit_anchored, scope=Scope.READ, answer=None, produces=Lines.media_type
)
routing.add(router, "GET", "/audit/export", export_audit, scope=Scope.ADMIN, answer=None, produces=Lines.media_type)
