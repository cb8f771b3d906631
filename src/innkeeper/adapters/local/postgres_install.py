"""Where the embedded PostgreSQL's programs are and as whom they can run. Called by embedded_postgres.py only.

PostgreSQL refuses to run as root, and initdb refuses a user without a name. So, by who we are:

=====================  =================================================================================
a named ordinary user  run directly
root, or nameless      in a user namespace that maps us to an ordinary user: files stay ours, so no mode
                       of any directory has to change, and a home of mode 0700 is no obstacle
root, no namespaces    as an unprivileged user, from a copy of the programs it can reach, if the data
                       directory is reachable too; otherwise refuse and name a directory that works
=====================  =================================================================================
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

from innkeeper.model.errors import PermanentError

PACKAGE = "embedded_postgres"
WORKING_DIRECTORY = Path("/var/lib/innkeeper")
"""Named in refusals: its parents can be entered by every user on any usual machine."""

_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
"""All that PostgreSQL gets of ours: no PG* variable, no locale, no secret."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """How to run a program of ``install``: a prefix of its command line and the identity to take on first."""

    install: Path
    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def run(self, program: str, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a program of the installation to its end; what it says, on either stream, is in ``stdout``."""
        return subprocess.run(
            self._command(program, arguments),
            cwd="/",
            env=_ENVIRONMENT,
            user=self.uid,
            group=self.gid,
            extra_groups=self._groups(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=timeout,
        )

    def spawn(self, program: str, *arguments: str, before: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own: a Ctrl-C in the terminal is for the supervisor, not for it."""
        return subprocess.Popen(
            [*before, *self._command(program, arguments)],
            cwd="/",
            env=_ENVIRONMENT,
            user=self.uid,
            group=self.gid,
            extra_groups=self._groups(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def _command(self, program: str, arguments: Sequence[str]) -> list[str]:
        return [*self.prefix, str(self.install / "bin" / program), *arguments]

    def _groups(self) -> list[int] | None:
        return None if self.uid is None else []

    def own(self, path: Path) -> None:
        """Give a file or directory that we made to the identity that must use it."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def find_install() -> Path:
    """The directory with bin, lib and share inside the installed wheel."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise PermanentError(
            "the embedded PostgreSQL is not installed: pip install 'innkeeper[local]'", reason="postgres-missing"
        )
    return Path(spec.origin).parent / "pginstall"


def major_version() -> int:
    """Major version of the embedded server: what the first line of PG_VERSION must say."""
    return int(version(PACKAGE).split(".")[0])


def choose_launcher(home: Path, *, euid: int | None = None) -> Launcher:
    """How to run the server whose files live in ``home`` (which exists and belongs to whoever must run it)."""
    me = os.geteuid() if euid is None else euid
    owner = home.stat().st_uid
    install = find_install()
    if me != 0:
        if owner != me:
            raise PermanentError(
                f"{home} belongs to user {user_name(owner)}, and this is {user_name(me)}: "
                "run as its owner or choose another data directory",
                reason="data-owner",
            )
        return Launcher(install) if has_name(me) else _nameless(install, me)
    # What an ordinary user began stays that user's: root steps down instead of locking the owner out.
    if owner != 0:
        return _as_user(home, install, owner)
    mapped = namespace_prefix()
    if mapped is not None:
        return Launcher(install, prefix=mapped)
    return _as_user(home, install, unprivileged_user().pw_uid)


def namespace_prefix() -> tuple[str, ...] | None:
    """The command that enters a user namespace as an ordinary user, or None where that is not allowed."""
    unshare = shutil.which("unshare")
    if unshare is None or not sys.platform.startswith("linux"):
        return None
    prefix = (unshare, "-U", f"--map-user={unprivileged_user().pw_uid}", "--")
    allowed = subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=10).returncode == 0
    return prefix if allowed else None


def unprivileged_user() -> pwd.struct_passwd:
    """An account that initdb can name. Any will do inside a namespace; outside, one that owns nothing else."""
    for name in ("postgres", "nobody", "daemon"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    for entry in pwd.getpwall():
        if entry.pw_uid != 0:
            return entry
    raise PermanentError(
        "this machine has no user but root, and PostgreSQL does not run as root: add one (useradd postgres)",
        reason="no-user",
    )


def has_name(uid: int) -> bool:
    """Whether the user database knows this uid; initdb insists on it."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def user_name(uid: int) -> str:
    """The account's name, or its number where it has none."""
    return pwd.getpwuid(uid).pw_name if has_name(uid) else f"number {uid}"


def _nameless(install: Path, uid: int) -> Launcher:
    prefix = namespace_prefix()
    if prefix is None:
        raise PermanentError(
            f"user number {uid} has no name on this machine, which PostgreSQL needs: "
            "add it to /etc/passwd, or run as a user that has one",
            reason="no-user",
        )
    return Launcher(install, prefix=prefix)


def _as_user(home: Path, install: Path, uid: int) -> Launcher:
    gid = pwd.getpwuid(uid).pw_gid if has_name(uid) else home.stat().st_gid
    if not _can_enter(home.parent, uid, gid):
        raise PermanentError(
            f"PostgreSQL must run as {user_name(uid)} here, who cannot reach {home}: "
            f"choose a data directory that every user can reach, say {WORKING_DIRECTORY}",
            reason="data-unreachable",
        )
    os.chown(home, uid, gid)
    if not _can_run(install, uid, gid):
        install = _copy_install(install, home, uid, gid)
    return Launcher(install, uid=uid, gid=gid)


def _can_enter(directory: Path, uid: int, gid: int) -> bool:
    return _succeeds(["/bin/sh", "-c", 'cd "$0"', str(directory)], uid, gid)


def _can_run(install: Path, uid: int, gid: int) -> bool:
    return _succeeds([str(install / "bin" / "postgres"), "--version"], uid, gid)


def _succeeds(command: Sequence[str], uid: int, gid: int) -> bool:
    try:
        done = subprocess.run(
            command, user=uid, group=gid, extra_groups=[], cwd="/", capture_output=True, check=False, timeout=10
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _copy_install(install: Path, home: Path, uid: int, gid: int) -> Path:
    """Copy the programs beside the data (42 MB, 0.4 s), once per version; a copy cut short is not found."""
    wanted = home / f"programs-{version(PACKAGE)}"
    inside = wanted / PACKAGE / "pginstall"
    if inside.is_dir():
        return inside
    building = Path(tempfile.mkdtemp(prefix=".programs-", dir=home))
    shutil.copytree(install, building / PACKAGE / "pginstall", symlinks=True)
    libraries = install.parent.parent / f"{PACKAGE}.libs"  # found by the programs relative to where they are
    if libraries.is_dir():
        shutil.copytree(libraries, building / libraries.name, symlinks=True)
    building.chmod(0o755)
    for path in [building, *building.rglob("*")]:
        os.chown(path, uid, gid, follow_symlinks=False)
    building.rename(wanted)
    return inside
