"""Gives a renewed certificate to HAProxy, which is never reloaded. Runs beside the rest of one life of HAProxy."""

import asyncio
import logging
import re
from pathlib import Path

from innkeeper.gateway.haproxy import MOST_PAYLOAD, Haproxy, HaproxyAwayError

LOOK_EVERY = 5.0
"""Seconds between two looks at the files. A kubelet brings a renewed Secret within a minute or two."""

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)

log = logging.getLogger("innkeeper.gateway.certificate")


class Certificate:
    """``path``: certificate and chain; the key is in it, or beside it (``tls.crt``, ``tls.key``).

    It speaks to HAProxy over connections of its own: one that HAProxy closes is not missed by the rest of the life.
    """

    def __init__(self, socket: str, path: str) -> None:
        self._socket = socket
        self._path = Path(path)
        self._told = ""

    async def run(self) -> None:
        """Until cancelled, or until HAProxy ends. What it holds from a life of the agent before is told again."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY)

    async def look(self) -> None:
        """Tell HAProxy if the files changed. What it does not take is logged once, and it goes on with what it has."""
        try:
            pem = self._read()
        except OSError as error:
            log.warning("the certificate cannot be read, the one before is served on: %s", error)
            return
        if pem == self._told:
            return
        # Files are exchanged one by one: a certificate and a key that do not fit are told apart from good ones below.
        self._told = pem
        if not 0 < len(pem) <= MOST_PAYLOAD:
            log.error(
                "the certificate, chain and key of %s are %d bytes of PEM, HAProxy takes 1 to %d while it runs:"
                " the one before is served on; leave out what clients do not need, or restart the gateway",
                self._path,
                len(pem),
                MOST_PAYLOAD,
            )
            return
        try:
            await self._tell(pem)
        except HaproxyAwayError as error:
            self._told = ""
            log.warning("the certificate could not be told, trying on: %s", error)

    async def _tell(self, pem: str) -> None:
        haproxy = await Haproxy.connect(self._socket)
        try:
            setting, committing = await haproxy.run(
                f"set ssl cert {self._path} <<\n{pem}\n", f"commit ssl cert {self._path}"
            )
            if "Success" in committing:
                log.info("HAProxy serves the certificate of %s", self._path)
                return
            await haproxy.run(f"abort ssl cert {self._path}")
        finally:
            haproxy.close()
        said = " ".join(f"{setting} {committing}".split())
        log.error("HAProxy does not take the certificate of %s, the one before is served on: %s", self._path, said)

    def _read(self) -> str:
        """As HAProxy takes it: blocks without the text around them, and without empty lines, which would end it."""
        key = self._path.with_suffix(".key")
        texts = [path.read_bytes() for path in (self._path, key) if path == self._path or path.exists()]
        blocks = [found[0].decode("ascii", "replace") for text in texts for found in _BLOCK.finditer(text)]
        return "\n".join(line for block in blocks for line in block.splitlines() if line.strip())
