"""Asks the agent's own HAProxy what it would do with a request for a host: neither traffic nor a wake.

The question is an HTTP request on a door of its own (``self.sock``), with a secret header, and meets the same look-up
in the same maps as a customer's; the answer names the life of HAProxy that gave it.
"""

import asyncio
from collections.abc import Sequence

import h11

from innkeeper.gateway.haproxy import TIMEOUT, HaproxyAwayError

SOCKET = "self.sock"


async def ask_own_haproxy(hosts: Sequence[str], *, secret: str, nonce: str, path: str = SOCKET) -> list[str]:
    """The route for each host; an empty one means that a request would be held or refused."""
    if not hosts:
        return []
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return [await _ask(reader, writer, host, secret, nonce) for host in hosts]
            finally:
                writer.close()
    except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
        message = f"HAProxy's frontend did not answer its agent: {error!r}"
        raise HaproxyAwayError(message) from error


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, secret: str, nonce: str) -> str:
    # A codec per question: HAProxy keeps the connection, the codec would want to be told.
    codec = h11.Connection(h11.CLIENT)
    headers = [("Host", host), ("X-Innkeeper-Ask", secret)]
    writer.write(codec.send(h11.Request(method="GET", target="/", headers=headers)) or b"")
    writer.write(codec.send(h11.EndOfMessage()) or b"")
    body = b""
    answered_by = b""
    while True:
        event = codec.next_event()
        if event is h11.NEED_DATA:
            codec.receive_data(await reader.read(1 << 16))
        elif isinstance(event, h11.Response):
            answered_by = dict(event.headers).get(b"x-boot", b"")
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            raise HaproxyAwayError("HAProxy closed its agent's connection")
    if answered_by.decode() != nonce:
        raise HaproxyAwayError("another life of HAProxy answered")
    return body.decode()
