"""Refusals of callers that nobody knows, counted and audited by the minute. Made by app.py, told by call.py.

One row a source class and minute, however many there were: nobody fills the audit chain without a token. What was
counted is in memory until its minute has passed; a process that is killed loses that.
"""

import ipaddress
import threading
from collections import Counter
from datetime import UTC, datetime

import structlog

from innkeeper.model.errors import InnkeeperError
from innkeeper.store import audit
from innkeeper.store.session import Database

log = structlog.get_logger()

ACTOR = "anonymous"
FLUSH_EVERY = 5.0
"""Seconds between two looks for minutes that have passed."""


class Refusals:
    """``tell_passed`` is called by a thread of its own while the application lives, ``close`` at its end."""

    def __init__(self, database: Database, *, edge: str) -> None:
        self._database = database
        self._edge = edge
        self._lock = threading.Lock()
        self._counts: Counter[tuple[datetime, str]] = Counter()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Begin to tell."""
        self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell what is left, and end."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        self._tell(everything=True)

    def note(self, address: str | None) -> None:
        """One more, from this address; only its class is kept."""
        key = (_minute(datetime.now(UTC)), source(address))
        with self._lock:
            self._counts[key] += 1

    def tell_passed(self) -> None:
        """Audit the minutes that have passed."""
        self._tell(everything=False)

    def _run(self) -> None:
        while not self._ending.wait(FLUSH_EVERY):
            self.tell_passed()

    def _tell(self, *, everything: bool) -> None:
        now = _minute(datetime.now(UTC))
        with self._lock:
            passed = {key: count for key, count in self._counts.items() if everything or key[0] < now}
        if not passed:
            return
        try:
            with self._database.transaction() as session:
                for (minute, where), count in sorted(passed.items()):
                    detail = {"count": count, "minute": minute.isoformat(), "source": where}
                    audit.append(session, actor=ACTOR, action="refused", target=self._edge, detail=detail)
        except InnkeeperError as error:  # told with the next minute
            log.warning("refusals.not-told", error=str(error))
            return
        with self._lock:
            self._counts.subtract(passed)
            self._counts += Counter()  # without what is at zero


def source(address: str | None) -> str:
    """Its class: loopback, private, public, or unknown. An address is personal data, a class is not."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if found.is_loopback:
        return "loopback"
    return "private" if found.is_private or found.is_link_local else "public"


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)
