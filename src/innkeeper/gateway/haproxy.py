"""Speaks to one life of HAProxy over its runtime socket. Used by the agent only.

A connection belongs to one process: when HAProxy dies it ends, so no command meant for one life reaches another.
"""

import asyncio
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from innkeeper.gateway.held import FORMAT
from innkeeper.model.errors import TemporaryError

PROMPT = b"\n> "
BATCH = 200
"""Commands sent before their answers are read: both ends' buffers hold so many."""

TIMEOUT = 10.0
"""Seconds for one batch. HAProxy answers in microseconds; only a stopped process takes longer."""

MOST_PAYLOAD = 15_000
"""Bytes after ``<<``: HAProxy closes the connection when they and their command are more than one buffer of 16,384."""

TABLES = ("activity", "probing")
"""Each request to an activation is in progress in one of them."""

_KEY = re.compile(r"\bkey=(\S+)")
_FIELD = re.compile(r"\b(http_req_cnt|conn_cur|bytes_in_cnt|bytes_out_cnt)=(\d+)")
_SIZE = re.compile(r"size:(\d+), used:(\d+)")
_STREAM = re.compile(r"^(0x[0-9a-f]+): .*?^  server=https? \(id=\d+\) addr=(\S+)", re.MULTILINE | re.DOTALL)


class HaproxyAwayError(TemporaryError):
    """HAProxy does not answer on its runtime socket: it is dead, stopped, or not there yet."""


class Counters(NamedTuple):
    """One activation's row of the table: cumulative requests and bytes, and streams open now."""

    requests: int
    bytes: int
    open: int


@dataclass(frozen=True, slots=True)
class Boot:
    """One life of HAProxy. ``id`` is its key in the state database, ``nonce`` what it calls itself."""

    id: str
    nonce: str


class Haproxy:
    """One connection in interactive mode; commands of different callers take turns."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    @classmethod
    async def connect(cls, path: str) -> "Haproxy":
        """Open a connection; ``HaproxyAwayError`` if nobody listens."""
        try:
            reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
        except OSError as error:
            message = f"HAProxy's runtime socket {path} does not answer: {error}"
            raise HaproxyAwayError(message) from error
        self = cls(reader, writer)
        await self.run("prompt")
        return self

    async def run(self, *commands: str) -> list[str]:
        """The answer to each command, in order."""
        answers: list[str] = []
        async with self._turn:
            for start in range(0, len(commands), BATCH):
                answers += await self._batch(commands[start : start + BATCH])
        return answers

    async def boot(self) -> Boot:
        """Which life this is: process id, start time, and the nonce it drew when it started.

        ``HaproxyAwayError`` for one that runs with another format's configuration: its maps and tables would be
        misread, so it is left alone, serves on what it holds, and is neither registered nor told anything.
        """
        info, nonce, written = await self.run("show info", "get var proc.boot", "get var proc.format")
        facts = dict(line.split(": ", 1) for line in info.splitlines() if ": " in line)
        found = re.search(r"value=<([0-9a-f-]{36})>", nonce)
        if found is None or f"value=<{FORMAT}>" not in written:
            raise HaproxyAwayError(
                "HAProxy runs with a configuration of another version, so this agent leaves it alone:"
                " restart the whole gateway"
            )
        return Boot(id=f"{facts['Pid']}-{facts['Start_time_sec']}-{found[1][:8]}", nonce=found[1])

    def close(self) -> None:
        """End the connection; HAProxy goes on."""
        self._writer.close()

    async def _batch(self, commands: Sequence[str]) -> list[str]:
        received = bytearray()
        ends = 0
        try:
            async with asyncio.timeout(TIMEOUT):
                self._writer.write("".join(f"{command}\n" for command in commands).encode())
                while ends < len(commands):
                    chunk = await self._reader.read(1 << 18)
                    if not chunk:
                        raise HaproxyAwayError("HAProxy ended")
                    # A prompt may be split over two chunks.
                    seen = max(0, len(received) - len(PROMPT) + 1)
                    received += chunk
                    ends += received.count(PROMPT, seen)
        except (OSError, TimeoutError) as error:
            self._writer.close()
            message = f"HAProxy's runtime socket failed: {error!r}"
            raise HaproxyAwayError(message) from error
        except BaseException:
            # Answers that nobody read would be taken for those of the next command.
            self._writer.close()
            raise
        return [part.decode(errors="replace").strip("\n") for part in received.split(PROMPT)[: len(commands)]]


def quote(word: str) -> str:
    """One word of a command: HAProxy splits at blanks and semicolons and reads backslashes."""
    return re.sub(r"([\\ ;\"'<#])", r"\\\1", word)


def counters(table: str) -> Iterator[tuple[str, Counters]]:
    """Rows of ``show table activity``, by activation."""
    for line in table.splitlines():
        key = _KEY.search(line)
        if key:
            found = {name: int(value) for name, value in _FIELD.findall(line)}
            sent = found["bytes_in_cnt"] + found["bytes_out_cnt"]
            yield key[1], Counters(found["http_req_cnt"], sent, found["conn_cur"])


def look_at_open(activation: str) -> list[str]:
    """The commands whose answers ``open_now`` adds up: its requests, and the probes among them."""
    return [f"show table {table} key {activation}" for table in TABLES]


def open_now(table: str) -> int:
    """Streams in one answer of ``show table ...``: none if there is no row."""
    return sum(int(value) for name, value in _FIELD.findall(table) if name == "conn_cur")


def sessions_now(stat: str) -> dict[str, int]:
    """Proxy -> what is open now, from ``show stat``: connections of a frontend, requests of a backend."""
    rows = (line.split(",") for line in stat.splitlines() if line and not line.startswith("#"))
    return {row[0]: int(row[4]) for row in rows}


def fullness(table: str) -> float:
    """How full a table is, from the head of its dump, 0 to 1."""
    found = _SIZE.search(table)
    return int(found[2]) / int(found[1]) if found else 0.0


def map_entries(answer: str) -> dict[str, str]:
    """Key -> value from ``show map``."""
    rows = (line.split(" ", 2) for line in answer.splitlines() if line.startswith("0x"))
    return {row[1]: row[2] for row in rows if len(row) == 3}  # noqa: PLR2004 - pointer, key, value


def map_value(answer: str) -> str | None:
    """The value in an answer of ``get map``; None if it found nothing."""
    found = re.search(r'found=yes.*value="([^"]*)"', answer)
    return found[1] if found else None


def streams_to(answer: str, addresses: Collection[str] | None) -> list[str]:
    """Ids of the streams of ``show sess all`` that are connected to one ``ip:port`` of them; None: to any workspace."""
    blocks = re.split(r"(?m)^(?=0x[0-9a-f]+: )", answer)
    found = (_STREAM.search(block) for block in blocks)
    return [match[1] for match in found if match and (addresses is None or match[2] in addresses)]
