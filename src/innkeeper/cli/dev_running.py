"""Runs local mode in this process or in one behind it, and tells the person what happens. Called by dev.py.

With ``--detach`` a second process goes on in a session of its own, writing to DATA/log/dev.log; the command returns
when everything answers.
"""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from json import dumps
from pathlib import Path
from typing import NoReturn

from innkeeper.adapters.local import issuer, leash, logfile
from innkeeper.adapters.local.data_directory import DataDirectory
from innkeeper.adapters.local.supervisor import Stopping, Supervisor
from innkeeper.bootstrap import dev as wiring
from innkeeper.model import disk
from innkeeper.model.errors import InnkeeperError, PermanentError


def foreground(wish: wiring.Wish, *, json: bool) -> None:
    """Start everything, keep it running, and end it when asked to (Ctrl-C, SIGTERM, a closed terminal)."""
    say = _to_standard_error if json else _to_standard_output
    _run(wish, say, lambda house: _to_standard_output(ready_text(house, json=json, detached=False)))


def detached(wish: wiring.Wish, *, json: bool) -> None:
    """The same in a second process; this one waits for its word, passes it on and returns."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    second = os.fork()
    if second == 0:
        os.close(reader)
        _behind(wish, writer, json=json)
    os.close(writer)
    try:
        with os.fdopen(reader) as heard:
            word, _, rest = heard.read().rstrip().partition(" ")
    except KeyboardInterrupt:
        os.kill(second, signal.SIGTERM)
        raise
    if word == "ready":
        sys.stdout.write(f"{rest}\n")
        return
    if not word:
        raise PermanentError(f"it ended while starting: see {wish.data / 'log' / 'dev.log'}")
    raise leash.rebuilt(word, rest)


@contextmanager
def plain_errors(data: Path) -> Generator[None]:
    """What the system refuses, as one line that says what to do."""
    try:
        yield
    except OSError as error:
        raise PermanentError(_one_line(error, data), reason="system") from error


def _one_line(error: InnkeeperError | OSError, data: Path) -> str:
    if isinstance(error, InnkeeperError):
        return str(error)
    if disk.is_full(error):
        return f"the disk of {data} is full: free some space, or choose another with --data"
    if error.errno == errno.EROFS:
        return f"{data} is on a read-only disk: choose another with --data"
    return f"{error.strerror}: {error.filename}" if error.filename else str(error)


# --- how -------------------------------------------------------------------------------------------------------------


def _run(wish: wiring.Wish, say: Callable[[str], None], ready: Callable[[wiring.House], None]) -> None:
    data = DataDirectory(wish.data)
    lock = wiring.take(data)
    left = wiring.end_leftovers(data, workspaces=False)
    if left:
        say(f"ended what an earlier run left behind: {', '.join(left)}")
    house = wiring.set_up(wish, data)
    say(f"starting on {data.root} ...")
    supervisor = house.supervisor(say=say)
    supervisor.prepare_signals()
    try:
        supervisor.start()
        ready(house)
        asked = supervisor.watch()
        say(f"stopping ({asked.name}) ... Ctrl-C again leaves at once")
    except Stopping:
        say("stopping before everything was ready ...")
    finally:
        _end(supervisor, say)
        lock.give_back()


def _end(supervisor: Supervisor, say: Callable[[str], None]) -> None:
    supervisor.give_back_signals()
    supervisor.stop()
    say("everything has ended; the data stay")


def _behind(wish: wiring.Wish, writer: int, *, json: bool) -> NoReturn:
    """The process that stays: in a session of its own, with its output in a file. Never returns to its caller."""
    code = 1
    try:
        os.setsid()
        code = _in_a_session_of_its_own(wish, writer, json=json)
    except BaseException:  # noqa: BLE001 - a defect; it is written down, and the stack above is the other process's
        traceback.print_exc()
    finally:
        os._exit(code)


def _in_a_session_of_its_own(wish: wiring.Wish, writer: int, *, json: bool) -> int:
    try:
        data = DataDirectory(wish.data)
        data.check()
        data.create()
        _redirect(data.log / "dev.log")
        _run(
            wish,
            _to_standard_output,
            lambda house: _tell(writer, f"ready {ready_text(house, json=json, detached=True)}"),
        )
    except InnkeeperError as error:
        return _failed(error, writer)
    except OSError as error:
        return _failed(PermanentError(_one_line(error, wish.data), reason="system"), writer)
    return 0


def _failed(error: InnkeeperError, writer: int) -> int:
    sys.stdout.write(f"{error}\n")
    sys.stdout.flush()
    _tell(writer, leash.told(error))
    return 1


def _tell(writer: int, line: str) -> None:
    """Pass a line to the command that waits, if it still does, and let it go."""
    with suppress(BrokenPipeError, OSError):
        os.write(writer, line.encode())
        os.close(writer)


def _redirect(path: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    with logfile.opened(path) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def ready_text(house: wiring.House, *, json: bool, detached: bool) -> str:
    """What to print once everything answers."""
    local = house.local
    if json:
        return dumps(addresses(house))
    people = issuer.people(local.data.issuer)
    width = max(len(person.username) for person in people)
    lines = [
        "",
        f"  hub       {local.hub_url}    customers sign up here",
        f"  admin     {local.admin_url}    operators: API; token in {local.data.token_file}",
        f"  mail      {local.mail_url}    what was sent",
        f"  issuer    {local.issuer_url}    where people sign in:",
        *(
            f"            {person.username:{width}}  password {person.password:{width}}  {person.email}"
            for person in people
        ),
        "",
        "  Local mode keeps tenants apart in PostgreSQL and HTTP, not as processes: workspaces run as you, can read",
        "  your files and reach each other's ports, and there is no TLS. Run only applications that you trust.",
        "",
        f"  Stop: inn dev stop --data {local.data.root}" if detached else "  Stop: Ctrl-C. The data stay.",
    ]
    return "\n".join(lines)


def addresses(house: wiring.House) -> dict[str, str]:
    """What ``--output json`` prints; the names are a promise."""
    local = house.local
    return {
        "hub": local.hub_url,
        "admin": local.admin_url,
        "mail": local.mail_url,
        "issuer": local.issuer_url,
        "workspace_url": local.url("{slug}.apps.localhost"),
        "data": str(local.data.root),
        "token_file": str(local.data.token_file),
    }


def _to_standard_output(line: str) -> None:
    # The terminal, or whatever read us, may be gone; that must not keep anything from being ended.
    with suppress(OSError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _to_standard_error(line: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
