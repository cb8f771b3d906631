"""``inn`` in a pipeline: whoever reads its output may stop reading, and no verb asks where nobody can answer."""

import os
import subprocess
from pathlib import Path

import pytest

from innkeeper.store import audit
from support.admin import Served
from support.cli import COMMAND, Ran, Run
from support.waiting import PATIENCE


def unread(served: Served, *words: str, cwd: Path) -> Ran:
    """Whoever would read its output has gone, as ``head`` does."""
    reader, writer = os.pipe()
    os.close(reader)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INN_")}
    try:
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=cwd,
            env=kept | {"INN_URL": served.url, "INN_TOKEN": served.token()},
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(writer)
    return Ran(done.returncode, "", done.stderr)


@pytest.mark.parametrize("words", ["customer list", "audit export", "audit list -o json", "--help"])
def test_output_that_nobody_reads_to_its_end_is_no_failure(served_admin: Served, tmp_path: Path, words: str):
    with served_admin.admin.database.transaction() as session:
        for number in range(100):  # more than is buffered
            audit.append(session, actor="test", action="test.many", target=str(number))
    assert unread(served_admin, *words.split(), cwd=tmp_path) == Ran(0, "", "")


def test_what_fails_fails_all_the_same(served_admin: Served, tmp_path: Path):
    ran = unread(served_admin, "workspace", "show", "nobody", cwd=tmp_path)
    assert (ran.code, "inn workspace list" in ran.line) == (3, True)


ASKING = [
    ("gateway remove gw-1", "inn gateway list", "gateway list"),
    ("breaker reset", "inn breaker show", "breaker show"),
    ("clock accept", "inn clock show", "clock show"),
    ("drift --fix", "inn drift", "drift --help"),
    ("workspace purge acme", "--dry-run", "workspace purge acme --dry-run"),
]


@pytest.mark.parametrize(("words", "said", "looking"), ASKING)
def test_where_nobody_can_be_asked_it_says_how_to_look_first(
    inn_here: Run, served_admin: Served, words: str, said: str, looking: str
):
    admin = served_admin.admin
    admin.workspace("acme")
    with admin.database.transaction() as session:
        session.execute("UPDATE installation SET doubt_real_at = now(), doubt_reason = 'moved'")
        session.execute("UPDATE breakers SET opened_at = business_now(), reason = 'too many'")
    refused = inn_here(*words.split())
    assert refused.code == 2
    assert refused.line == f"nobody can be asked here: give --yes to do it, or look first with {said}"
    assert inn_here(*looking.split()).code == 0
