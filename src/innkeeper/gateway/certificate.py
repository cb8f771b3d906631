"""Gives a renewed certificate to HAProxy, which is never reloaded. Runs beside the rest of one life of HAProxy."""

import asyncio
import logging
from pathlib import Path

from innkeeper.gateway.haproxy import Haproxy

LOOK_EVERY = 5.0
"""Seconds between two looks at the files. A kubelet brings a renewed Secret within a minute or two."""

log = logging.getLogger("innkeeper.gateway.certificate")


class Certificate:
    """``path``: certificate and chain; the key is in it, or beside it (``tls.crt``, ``tls.key``)."""

    def __init__(self, haproxy: Haproxy, path: str) -> None:
        self._haproxy = haproxy
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
        except (OSError, UnicodeDecodeError) as error:
            log.warning("the certificate cannot be read, the one before is served on: %s", error)
            return
        if pem == self._told:
            return
        # Files are exchanged one by one: a certificate and a key that do not fit are told apart from good ones below.
        self._told = pem
        setting, committing = await self._haproxy.run(
            f"set ssl cert {self._path} <<\n{pem}\n", f"commit ssl cert {self._path}"
        )
        if "Success" in committing:
            log.info("HAProxy serves the certificate of %s", self._path)
            return
        await self._haproxy.run(f"abort ssl cert {self._path}")
        said = " ".join(f"{setting} {committing}".split())
        log.error("HAProxy does not take the certificate of %s, the one before is served on: %s", self._path, said)

    def _read(self) -> str:
        """As HAProxy takes it: without empty lines, which would end it."""
        key = self._path.with_suffix(".key")
        texts = [path.read_text(encoding="ascii") for path in (self._path, key) if path == self._path or path.exists()]
        return "\n".join(line for text in texts for line in text.splitlines() if line.strip())
