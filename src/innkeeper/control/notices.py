"""Telling people before their data are destroyed. The worker ticks this; mail leaves through the Mailer port.

Intent is written and the row's next look pushed away before the mail goes out, acceptance after: a worker that dies in
between is followed by one that sends the same message id again, which the relay recognises.
"""

import structlog

from innkeeper.control import clockwatch
from innkeeper.control.house import House
from innkeeper.model import retention
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.moment import Moment
from innkeeper.model.retention import Act, Notice
from innkeeper.model.workspace import Workspace
from innkeeper.ports import Mail
from innkeeper.store import audit, clock, customers, notices, sweeps
from innkeeper.store.session import Session

log = structlog.get_logger()

BATCH = 100
_KINDS = {Act.NOTIFY_FIRST: Notice.FIRST, Act.NOTIFY_LAST: Notice.LAST}


def send_due(house: House) -> int:
    """Send every notice that is due; how many were accepted."""
    with house.database.transaction() as session:
        began = sweeps.begin(session, "notices")
    sent = 0
    while batch := _take(house):
        for workspace, kind, recipients, purge_at in batch:
            sent += _send(house, workspace, kind, recipients, purge_at)
    with house.database.transaction() as session:
        sweeps.end(session, "notices", began=began)
    return sent


def _take(house: House) -> list[tuple[Workspace, Notice, list[str], str]]:
    taken: list[tuple[Workspace, Notice, list[str], str]] = []
    with house.database.transaction() as session:
        now = clockwatch.trusted(session, house.host)
        if now is None:
            return []
        for workspace in sweeps.take_notices(session, limit=BATCH, now=now.business):
            due = _schedule(session, workspace, now)
            kind = _KINDS.get(due.act)
            if kind is None:
                sweeps.retain_again(session, workspace.id, at=due.due_at, purge_at=due.purge_at)
                continue
            recipients = _recipients(session, workspace)
            notices.intend(
                session,
                workspace_id=workspace.id,
                generation=workspace.generation,
                kind=kind,
                recipient=recipients[0],
            )
            sweeps.retain_again(session, workspace.id, at=now.business + retention.NOTICE_RETRY, purge_at=due.purge_at)
            taken.append((workspace, kind, recipients, f"{due.purge_at:%Y-%m-%d %H:%M} UTC"))
    return taken


def _send(house: House, workspace: Workspace, kind: Notice, recipients: list[str], purge_at: str) -> bool:
    failure = ""
    for number, recipient in enumerate([*recipients, house.operator_mail]):
        mail = _mail(house, workspace, kind, to=recipient, number=number, purge_at=purge_at)
        try:
            house.mailer.send(mail)
        except PermanentError as error:
            failure = str(error)
            continue
        except TemporaryError as error:
            failure = str(error)
            break
        # The operator is asked to find the customer: that is not the customer's notice.
        if number < len(recipients):
            _accepted(house, workspace, kind)
            return True
    log.error("notice.not-accepted", workspace=workspace.id, kind=kind.value, why=failure)
    with house.database.transaction() as session:
        notices.refused(session, workspace_id=workspace.id, generation=workspace.generation, kind=kind, failure=failure)
    return False


def _accepted(house: House, workspace: Workspace, kind: Notice) -> None:
    with house.database.transaction() as session:
        notices.accepted(session, workspace_id=workspace.id, generation=workspace.generation, kind=kind)
        due = _schedule(session, workspace, clock.now(session))
        sweeps.retain_again(
            session, workspace.id, at=due.due_at, purge_at=due.purge_at, generation=workspace.generation
        )
        detail = {"kind": kind.value, "generation": workspace.generation}
        audit.append(session, actor="system:retention", action="notice.accepted", target=workspace.id, detail=detail)


def _schedule(session: Session, workspace: Workspace, now: Moment) -> retention.Retention:
    accepted = notices.of_generation(session, workspace_id=workspace.id, generation=workspace.generation)
    asleep_since = workspace.deactivated_at or now.business
    return retention.schedule(deactivated_at=asleep_since, accepted=accepted, now=now.business)


def _recipients(session: Session, workspace: Workspace) -> list[str]:
    """The contact, then the other members."""
    customer = customers.find(session, workspace.customer_id)
    contact = customer.contact_email if customer else ""
    return list(dict.fromkeys([contact, *customers.other_emails(session, workspace.customer_id)]))


def _mail(house: House, workspace: Workspace, kind: Notice, *, to: str, number: int, purge_at: str) -> Mail:
    url = house.domain.url(workspace.slug)
    when = "in about seven days" if kind is Notice.FIRST else "tomorrow"
    return Mail(
        id=f"notice-{workspace.id}-{workspace.generation}-{kind}-{number}",
        to=to,
        subject=f"The data of {workspace.slug} will be destroyed {when}",
        text=(
            f"Hello,\n\nyour workspace {workspace.slug} has been asleep since"
            f" {workspace.deactivated_at:%Y-%m-%d %H:%M} UTC.\nIts data will be destroyed for ever on {purge_at}"
            f" or soon after.\n\nTo keep them, just open it:\n{url}\n\nIt wakes within seconds,"
            " and nothing is destroyed.\n"
        ),
    )
