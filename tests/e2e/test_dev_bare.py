"""``inn dev`` on a machine without unshare and setpriv, and as root where there are no user namespaces."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.dev import Dev, with_ports

pytestmark = [pytest.mark.timeout(300)]


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Dev]:
    """On a machine without unshare and setpriv, in a directory that every user can reach.

    As root this is also how it is where user namespaces are not allowed.
    """
    reachable = Path(tempfile.mkdtemp(prefix="innkeeper-"))
    reachable.chmod(0o755)
    (tmp_path / "bin").mkdir()
    made = Dev(with_ports(reachable / "data"), path=str(tmp_path / "bin"))
    yield made
    made.clean_up()
    shutil.rmtree(reachable)


def test_without_the_kernels_help(bare: Dev) -> None:
    bare.start()
    if os.geteuid() == 0:
        assert bare.child("state").username() not in ("root", "0")
        assert bare.data.stat().st_mode & 0o777 == 0o711
    assert (bare.data / "secrets").stat().st_mode & 0o777 == 0o700

    bare.kill_supervisor()
    assert bare.child("haproxy").is_running(), "the control: nobody told it"
    bare.start()
    assert bare.has_one_of_each(), bare.described()
    bare.stop()
    bare.nothing_runs()


def test_as_root_without_user_namespaces_where_nobody_else_gets_in(bare: Dev) -> None:
    if os.geteuid() != 0:
        pytest.skip("PostgreSQL as another user: these tests do not run as root")
    bare.data.parent.chmod(0o700)
    refused = bare.run("--port", "0")
    assert refused.returncode == 1
    assert "choose a data directory that every user can reach" in refused.stderr
    assert bare.data.parent.stat().st_mode & 0o777 == 0o700, "no parent's mode is ever changed"
    bare.nothing_runs()
