"""/v1/audit: reading the chain, verifying it, exporting it."""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated

from fastapi import Query
from starlette.responses import Response, StreamingResponse

from innkeeper.admin import routing, views
from innkeeper.admin.call import Reply, TheCall
from innkeeper.admin.paging import PageSize, PageToken, page
from innkeeper.admin.schemas import audit as s
from innkeeper.model.audit import AuditRow, Head, verify
from innkeeper.model.token import Scope
from innkeeper.store import audit as store
from innkeeper.store.session import Database, Session

router = routing.router("audit")

LINES = "application/jsonl"


def list_audit(
    call: TheCall,
    target: Annotated[str | None, Query(description="Only rows about this id")] = None,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Response:
    """Audit rows, oldest first."""

    def query(session: Session) -> Reply:
        return page(
            session,
            call,
            size=page_size,
            token=page_token,
            fetch=lambda after, limit: store.rows(
                session, after=int(after[0]) if after else 0, limit=limit, target=target
            ),
            place=lambda row: [str(row.seq)],
            show=views.audit,
        )

    return call.read(query)


def verify_audit(call: TheCall) -> Response:
    """Walk the whole chain: one JSON line a finding, then one with ``rows``, ``head``, ``anchors``, ``findings``."""
    call.admit()
    return StreamingResponse(_verdicts(call.services.database), media_type=LINES)


def verify_audit_anchored(call: TheCall, body: s.Anchors) -> Response:
    """The same, held against heads of the chain that were kept outside the database."""
    call.admit()
    anchors = [Head(one.seq, bytes.fromhex(one.hash)) for one in body.anchors]
    return StreamingResponse(_verdicts(call.services.database, anchors), media_type=LINES)


def _verdicts(database: Database, anchors: Sequence[Head] = ()) -> Iterator[str]:
    rows = findings = 0
    with database.snapshot() as session:

        def counted() -> Iterator[AuditRow]:
            nonlocal rows
            for row in store.all_rows(session):
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
    return StreamingResponse(_export(call.services.database, after), media_type=LINES)


def _export(database: Database, after: int) -> Iterator[str]:
    with database.snapshot() as session:
        for row in store.all_rows(session):
            if row.seq > after:
                yield _line(views.audit(row))


def _line(value: views.Json) -> str:
    return json.dumps(value) + "\n"


routing.add(router, "GET", "/audit", list_audit, scope=Scope.READ, answer=s.AuditRows)
routing.add(router, "GET", "/audit/verify", verify_audit, scope=Scope.READ, answer=None, produces=LINES)
routing.add(router, "POST", "/audit/verify", verify_audit_anchored, scope=Scope.READ, answer=None, produces=LINES)
routing.add(router, "GET", "/audit/export", export_audit, scope=Scope.ADMIN, answer=None, produces=LINES)
