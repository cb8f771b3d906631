"""The tie between the supervisor and one of our own Python children: a socket pair on the child's standard input.

Through it the child is told to go on once what it needs is there (it imports its modules meanwhile), says that it is
ready, and notices on every system, without signals, that the supervisor is gone. Lines of text, both ways::

    supervisor -> child    go
    child -> supervisor    ready | say TEXT | fail SLUG TEXT
"""

import os
import signal
import socket
import threading
from dataclasses import dataclass, field

from innkeeper.model.errors import InnkeeperError

_LAST_GRACE = 15.0
"""Seconds that a child without a supervisor gets for a clean end."""


def told(error: InnkeeperError) -> str:
    """An error as one line for another process: its slug and its words."""
    return f"{error.slug} {' '.join(str(error).split())}"


def rebuilt(slug: str, text: str = "it did not say why") -> InnkeeperError:
    """The error that ``told`` made a line of: of the same kind, so that it leads to the same exit code."""
    kinds = [InnkeeperError]
    for kind in kinds:
        if kind.slug == slug:
            return kind(text)
        kinds += kind.__subclasses__()
    return InnkeeperError(text)


@dataclass(slots=True)
class Leash:
    """The supervisor's end."""

    ours: socket.socket
    theirs: socket.socket
    ready: bool = False
    failure: InnkeeperError | None = None
    said: list[str] = field(default_factory=list[str])
    _received: bytes = b""

    @classmethod
    def make(cls) -> "Leash":
        """A new tie; give ``theirs`` to the child as standard input, then call ``handed_over``."""
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        return cls(ours, theirs)

    def handed_over(self) -> None:
        """The child has its end."""
        self.theirs.close()

    def go(self) -> None:
        """Let the child go on. A child that is gone already is noticed elsewhere."""
        try:
            self.ours.send(b"go\n")
        except (BrokenPipeError, ConnectionResetError):
            return

    def read(self) -> None:
        """Take in what the child said."""
        while True:
            try:
                chunk = self.ours.recv(1 << 16)
            except (BlockingIOError, ConnectionResetError):
                break
            if not chunk:
                break
            self._received += chunk
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            word, _, text = line.decode(errors="replace").partition(" ")
            if word == "ready":
                self.ready = True
            elif word == "say":
                self.said.append(text)
            elif word == "fail":
                self.failure = rebuilt(*text.split(" ", 1))

    def close(self) -> None:
        """Let loose."""
        self.ours.close()


class Tied:
    """The child's end; made first thing in a child's main()."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=os.dup(0))
        # What the child starts in turn must not hold on to the leash.
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)

    def wait(self) -> None:
        """Return when told to go on; end the process quietly if the supervisor is gone."""
        if self._socket.recv(64) == b"":
            raise SystemExit(0)
        threading.Thread(target=self._watch, name="leash", daemon=True).start()

    def ready(self) -> None:
        """Say that this child serves."""
        self._send("ready")

    def say(self, text: str) -> None:
        """Tell the person in front of the terminal."""
        self._send(f"say {' '.join(text.split())}")

    def fail(self, error: InnkeeperError) -> None:
        """Say why this child is about to end."""
        self._send(f"fail {told(error)}")

    def _send(self, line: str) -> None:
        try:
            self._socket.sendall(f"{line}\n".encode())
        except (BrokenPipeError, ConnectionResetError):
            return  # nobody listens any more; _watch ends this process

    def _watch(self) -> None:
        try:
            while self._socket.recv(64):
                pass
        except ConnectionResetError:
            pass  # as good as an end
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(_LAST_GRACE)
        os._exit(1)
