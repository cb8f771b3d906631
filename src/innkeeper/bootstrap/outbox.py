"""The evaluation's outbox: a mail relay that delivers nothing, and the page that shows what it took.

Called by ``inn serve outbox``.
"""

from pathlib import Path

from innkeeper.adapters.local.mail import MailFolder
from innkeeper.adapters.local.mail_sink import listening
from innkeeper.bootstrap.local import MAIL_SENDER
from innkeeper.bootstrap.web import bind, serve
from innkeeper.outbox.app import create_outbox
from innkeeper.settings import ListenSettings

SMTP_PORT = 2525
"""Not 25, which only root may listen on."""


def serve_outbox(folder: Path, listen: ListenSettings, *, smtp_port: int = SMTP_PORT) -> None:
    """Until SIGTERM. Mails are kept in ``folder``."""
    kept = MailFolder(folder, sender=MAIL_SENDER)
    with listening(kept, host=listen.host, port=smtp_port):
        serve(create_outbox(folder), [], sockets=bind(listen), ready=lambda: None)
