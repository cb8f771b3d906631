"""``inn dev``: the whole product on this machine. Talks to the person; what it does is in bootstrap/dev.py.

The process that runs here is the supervisor, so nothing heavy is imported. With ``--detach`` it goes on in a session of
its own, writing to DATA/log/dev.log, and the command returns when everything answers.
"""

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from innkeeper.adapters.local import issuer, logfile
from innkeeper.adapters.local.data_directory import DataDirectory, Lock
from innkeeper.adapters.local.supervisor import Stopping, Supervisor
from innkeeper.bootstrap import dev as wiring
from innkeeper.model.errors import Conflict, InnkeeperError, InvalidInput, NotFound, PermanentError, TemporaryError

DEFAULT_DATA = Path(".innkeeper")
DEFAULT_PORT = 8080

STOP_TIMEOUT = 60.0
"""Seconds that ``stop`` waits for the supervisor, which gives every child its own grace."""

_POLL = 0.05

dev = typer.Typer(
    help="Run everything on this machine: databases, gateway, sign-in, hub, admin API, worker.",
    invoke_without_command=True,
    no_args_is_help=False,
)
user = typer.Typer(help="People who can sign in at the development issuer.", no_args_is_help=True)
dev.add_typer(user, name="user")

Data = Annotated[
    Path, typer.Option("--data", envvar="INN_DATA", help="Where everything is kept.", show_default=".innkeeper")
]


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where the person is told things. With ``json`` only the result goes to standard output."""

    json: bool

    def say(self, line: str) -> None:
        """One line of what is going on."""
        sys.stderr.write(f"{line}\n") if self.json else sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


@dev.callback()
def run(
    context: typer.Context,
    *,
    data: Data = DEFAULT_DATA,
    port: Annotated[int, typer.Option(help="The gateway's port; 0 for any free one.")] = DEFAULT_PORT,
    app: Annotated[Path | None, typer.Option(help="App spec to serve instead of the sample app.")] = None,
    instances: Annotated[
        int | None, typer.Option(help="PostgreSQL servers for workspaces.", show_default="1, or as many as there are")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background and return when ready.")] = False,
    output: Annotated[Literal["table", "json"], typer.Option(help="json: one line with the addresses.")] = "table",
) -> None:
    """Start everything; Ctrl-C ends it. The data stay."""
    context.obj = data
    if context.invoked_subcommand is not None:
        return
    terminal = Terminal(output == "json")
    wish = wiring.Wish(data, port, app, instances)
    with plain_errors(data):
        if detach:
            _detached(wish)
        else:
            _foreground(wish, terminal, lambda house: terminal.say(_ready(house, terminal, detached=False)))


@dev.command()
def stop(context: typer.Context, data: Annotated[Path | None, typer.Option("--data")] = None) -> None:
    """End everything that runs on the data directory. The data stay."""
    where = DataDirectory(_data(context, data))
    with plain_errors(where.root):
        _existing(where)
        holder = Lock(where).holder()
        if holder is None:
            lock = wiring.take(where)
            left = wiring.end_leftovers(where, workspaces=True)
            lock.give_back()
            what = f"ended what was left: {', '.join(left)}" if left else "nothing was running"
            typer.echo(f"{what} on {where.root}")
            return
        os.kill(holder.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        while Lock(where).holder() is not None:
            if time.monotonic() > deadline:
                raise TemporaryError(f"{holder} has not ended after {STOP_TIMEOUT:g} s: see {where.log / 'dev.log'}")
            time.sleep(_POLL)  # another process's end, which nothing announces
        typer.echo(f"stopped; the data stay in {where.root}")


@dev.command()
def reset(
    context: typer.Context,
    *,
    data: Annotated[Path | None, typer.Option("--data")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Destroy all data of local mode: workspaces, databases, people, mails."""
    where = DataDirectory(_data(context, data))
    with plain_errors(where.root):
        _existing(where)
        lock = wiring.take(where)
        if not yes and not typer.confirm(f"Destroy everything in {where.root}?"):
            raise InvalidInput("nothing was changed")
        wiring.end_leftovers(where, workspaces=True)
        left = where.reset()
        lock.give_back()
        typer.echo(f"{where.root}: everything was removed" + (f" but {', '.join(left)}" if left else ""))


@user.command("add")
def add_user(
    context: typer.Context,
    email: str,
    name: Annotated[str | None, typer.Option(help="Full name; from the e-mail when not given.")] = None,
    password: Annotated[str | None, typer.Option(help="The user name when not given.")] = None,
    data: Annotated[Path | None, typer.Option("--data")] = None,
) -> None:
    """Let one more person sign in. A running issuer notices by itself."""
    where = DataDirectory(_data(context, data))
    with plain_errors(where.root):
        _existing(where)
        username = email.partition("@")[0]
        full = name or username.replace(".", " ").replace("-", " ").title()
        person = issuer.Person(username, full, email, password or username)
        issuer.add_person(where.issuer, person)
        typer.echo(f"{person.email} signs in as {person.username} with password {person.password}")


# --- running ---------------------------------------------------------------------------------------------------------


def _foreground(wish: wiring.Wish, terminal: Terminal, ready: Callable[[wiring.House], None]) -> None:
    data = DataDirectory(wish.data)
    lock = wiring.take(data)
    left = wiring.end_leftovers(data, workspaces=False)
    if left:
        terminal.say(f"ended what an earlier run left behind: {', '.join(left)}")
    house = wiring.set_up(wish, data)
    terminal.say(f"starting on {data.root} ...")
    supervisor = house.supervisor(say=terminal.say)
    supervisor.prepare_signals()
    try:
        supervisor.start()
        ready(house)
        asked = supervisor.watch()
        terminal.say(f"stopping ({asked.name}) ...")
    except Stopping:
        terminal.say("stopping before everything was ready ...")
    finally:
        _end(supervisor, terminal)
        lock.give_back()


def _end(supervisor: Supervisor, terminal: Terminal) -> None:
    supervisor.give_back_signals()
    supervisor.stop()
    terminal.say("everything has ended; the data stay")


def _detached(wish: wiring.Wish) -> None:
    """A second process does the work; this one waits for its word and passes it on."""
    reader, writer = os.pipe()
    started = os.fork()
    if started == 0:
        os.close(reader)
        os._exit(_behind(wish, writer))
    os.close(writer)
    with os.fdopen(reader) as told:
        word, _, rest = told.read().partition("\n")
    if word == "ready":
        sys.stdout.write(rest if rest.endswith("\n") else f"{rest}\n")
        return
    if word == "refused":
        raise Conflict(rest.strip())
    raise PermanentError(rest.strip() or f"it ended while starting: see {wish.data / 'log' / 'dev.log'}")


def _behind(wish: wiring.Wish, writer: int) -> int:
    """The process that stays: in a session of its own, with its output in a file."""
    os.setsid()
    word = os.fdopen(writer, "w")

    def tell(kind: str, text: str) -> None:
        word.write(f"{kind}\n{text}")
        word.close()

    try:
        data = DataDirectory(wish.data)
        data.check()
        data.create()
        _redirect(data.log / "dev.log")
        log = Terminal(json=False)
        _foreground(wish, log, lambda house: tell("ready", _ready(house, Terminal(json=True), detached=True)))
    except Conflict as error:
        tell("refused", str(error))
        return 1
    except (InnkeeperError, OSError) as error:
        sys.stdout.write(f"{_one_line(error, wish.data)}\n")
        if not word.closed:
            tell("failed", _one_line(error, wish.data))
        return 1
    return 0


def _redirect(path: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    with logfile.opened(path) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _ready(house: wiring.House, terminal: Terminal, *, detached: bool) -> str:
    local = house.local
    if terminal.json:
        return json.dumps(addresses(house))
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


# --- helpers ---------------------------------------------------------------------------------------------------------


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
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk of {data} is full: free some space, or choose another with --data"
    if error.errno == errno.EROFS:
        return f"{data} is on a read-only disk: choose another with --data"
    return f"{error.strerror}: {error.filename}" if error.filename else str(error)


def _data(context: typer.Context, given: Path | None) -> Path:
    """``--data`` of the command itself, or of ``inn dev`` before it, or INN_DATA."""
    root = context.find_root()
    outer: object = context.parent.obj if context.parent is not None and context.parent is not root else context.obj
    return given or (outer if isinstance(outer, Path) else DEFAULT_DATA)


def _existing(data: DataDirectory) -> None:
    if not data.exists():
        raise NotFound(f"{data.root} is no data directory of Innkeeper: start one with: inn dev --data {data.root}")
