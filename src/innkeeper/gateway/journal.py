"""What an agent must know of its predecessor beside the same HAProxy: which counters were committed, what still drains.

An append-only file of JSON lines, valid for one life of HAProxy, so it need not survive the machine: no fsync. A line
is written after the commit it tells of, never before: if the agent dies in between, traffic is counted twice, and
never missed. The last line may be torn.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from innkeeper.gateway.haproxy import Counters
from innkeeper.model import disk

log = logging.getLogger("innkeeper.gateway.journal")

COMPACT_AFTER = 20_000
"""Lines after which the file is written anew: some megabytes."""


class Withdrawal(NamedTuple):
    """A route that was taken back and whose streams are being counted. ``addresses``: where they go, if known."""

    workspace_id: str
    version: int
    activations: tuple[str, ...]
    addresses: tuple[str, ...]


@dataclass(slots=True)
class Journal:
    """``counters``: as last committed, by workspace. ``withdrawals``: not yet reported drained."""

    path: Path
    boot_id: str
    counters: dict[str, Counters] = field(default_factory=dict[str, Counters])
    withdrawals: dict[tuple[str, int], Withdrawal] = field(default_factory=dict[tuple[str, int], Withdrawal])
    adopted: bool = False
    """True if a predecessor beside the same HAProxy left this."""
    _lines: int = 0
    _behind: bool = False
    """Whether the file lacks what is true here, or ends in half a line: it is written anew before it is added to."""

    @classmethod
    def open(cls, path: Path, boot_id: str) -> "Journal":
        """Read what a predecessor wrote for this life of HAProxy; anything else is begun anew."""
        self = cls(path, boot_id)
        if path.exists():
            lines = path.read_text(encoding="utf-8").split("\n")
            # Without its newline the last line may be torn.
            entries = [json.loads(line) for line in lines[:-1] if line]
            if entries and entries[0] == ["boot", boot_id]:
                self.adopted = True
                for entry in entries[1:]:
                    self._apply(entry)
        try:
            self._compact()
        except OSError as error:
            self._fall_behind(error)
        return self

    def read(self, counters: Mapping[str, Counters], gone: set[str]) -> None:
        """A reading was committed: these are the new values, and these rows have left HAProxy's table."""
        self._append(["read", {key: list(value) for key, value in counters.items()}, sorted(gone)])

    def withdrawn(self, withdrawal: Withdrawal) -> None:
        """A route is about to be taken from the map."""
        self._append(["withdrawn", *withdrawal])

    def drained(self, workspace_id: str, version: int) -> None:
        """No stream is left and that was reported, or the route is back: withdrawals up to ``version`` are over."""
        if not any(key[0] == workspace_id and key[1] <= version for key in self.withdrawals):
            return
        self._append(["drained", workspace_id, version])

    def _append(self, entry: list[Any]) -> None:
        self._apply(entry)
        try:
            if self._behind or self._lines >= COMPACT_AFTER:
                self._compact()
                return
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, separators=(",", ":")) + "\n")
            self._lines += 1
        except OSError as error:
            self._fall_behind(error)

    def _fall_behind(self, error: OSError) -> None:
        """On a full disk the gateway goes on.

        Should this agent end before there is room, the next one counts some traffic twice, and does not know where
        streams go that it is to cut.
        """
        if not disk.is_full(error):
            raise error
        if not self._behind:
            log.error("the journal is not kept for a successor: %s", disk.refusal(error, self.path.absolute()))
        self._behind = True

    def _apply(self, entry: list[Any]) -> None:
        match entry:
            case ["read", changed, gone]:
                self.counters.update({key: Counters(*value) for key, value in changed.items()})
                for key in gone:
                    self.counters.pop(key, None)
            case ["withdrawn", workspace_id, version, activations, addresses]:
                withdrawal = Withdrawal(workspace_id, version, tuple(activations), tuple(addresses))
                self.withdrawals[workspace_id, version] = withdrawal
            case ["drained", workspace_id, version]:
                over = [key for key in self.withdrawals if key[0] == workspace_id and key[1] <= version]
                for key in over:
                    del self.withdrawals[key]
            case _:
                message = f"{self.path} has a line this version does not know; delete it to begin anew"
                raise ValueError(message)

    def _compact(self) -> None:
        entries: list[list[Any]] = [["boot", self.boot_id]]
        entries.append(["read", {key: list(value) for key, value in self.counters.items()}, []])
        entries += [["withdrawn", *withdrawal] for withdrawal in self.withdrawals.values()]
        new = self.path.with_name(self.path.name + ".new")
        new.write_text("".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries), encoding="utf-8")
        new.replace(self.path)
        self._lines, self._behind = len(entries), False
