"""An SMTP server that puts what arrives into a mail folder: the relay of an evaluation, and of tests.

Called by ``inn serve outbox``. It delivers nothing anywhere, and takes mail for everybody from whoever reaches it.
"""

import asyncio
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from email import message_from_bytes
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from innkeeper.adapters.local.mail import MailFolder
from innkeeper.adapters.mail_message import name_of
from innkeeper.model.errors import TemporaryError

MOST = 1 << 20
"""Bytes of one message."""

_OURS = re.compile(r"<([^@<>]+)@innkeeper>")


@contextmanager
def listening(folder: MailFolder, *, host: str, port: int) -> Generator[int]:
    """Take mail into ``folder`` while the body runs; the port (``port`` 0: any)."""
    with answering(_Keeper(folder), host=host, port=port, data_size_limit=MOST, enable_SMTPUTF8=True) as found:
        yield found


@contextmanager
def answering(handler: object, *, host: str, port: int, **options: Any) -> Generator[int]:
    """An SMTP server in a thread of its own, with a handler as aiosmtpd describes them; its port."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: SMTP(handler, loop=loop, **options), host, port))
    thread = threading.Thread(target=loop.run_forever, name="smtp", daemon=True)
    thread.start()
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class _Keeper:
    def __init__(self, folder: MailFolder) -> None:
        self._folder = folder

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: ARG002, N802 - aiosmtpd's
        content = envelope.content
        data = content if isinstance(content, bytes) else (content or "").encode()
        named = str(message_from_bytes(data).get("Message-ID", ""))
        ours = _OURS.fullmatch(named.strip())
        try:
            self._folder.put(name_of(ours[1] if ours else named), data.replace(b"\r\n", b"\n"))
        except TemporaryError as error:  # anything else than a 4xx would mean: never try this mail again
            return f"452 {error}"
        return "250 kept"
