"""What an embedded PostgreSQL that does not start said, and what is made of it."""

from pathlib import Path

import pytest

from innkeeper.adapters.local import postgres_trouble as trouble
from innkeeper.model.errors import PermanentError, TemporaryError

HERE = Path("/data/state")
LOG = "2026-11-30 13:00:00 UTC [7]"

SAID = {
    "its port is taken": (
        [f'{LOG} LOG:  could not bind IPv4 address "127.0.0.1": Address already in use',
         f"{LOG} FATAL:  could not create any TCP/IP sockets"],
        PermanentError, "port 15001 on 127.0.0.1 is in use by another program",
    ),
    "one that was killed still has its memory": (
        [f"{LOG} FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use"],
        TemporaryError, "a killed server still holds /data/state/data",
    ),
    "one that was killed still has its lock": (
        [f'{LOG} FATAL:  lock file "postmaster.pid" already exists', "HINT:  Is another postmaster running?"],
        TemporaryError, "try again in a few seconds",
    ),
    "its disk is full, and it says more after that": (
        [f"{LOG} FATAL:  could not write to file: No space left on device", f"{LOG} LOG:  shutting down"],
        TemporaryError, "the disk of /data/state is full",
    ),
    "something else": (
        [f"{LOG} LOG:  starting", f"{LOG} FATAL:  data directory has invalid permissions", f"{LOG} LOG:  down"],
        PermanentError, "does not start: .* FATAL:  data directory has invalid permissions",
    ),
    "it ended without a fatal word": ([f"{LOG} LOG:  starting"], PermanentError, "does not start: .* LOG:  starting"),
    "nothing": ([], PermanentError, "it said nothing"),
}  # fmt: skip


@pytest.mark.parametrize("what", SAID)
def test_a_failure_says_what_to_do(what: str):
    said, kind, told = SAID[what]
    with pytest.raises(kind, match=told):
        raise trouble.failure(said, HERE, port=15001)


def test_only_what_passes_is_tried_again():
    again = {what for what, (said, _, _) in SAID.items() if trouble.may_pass(said, port_is_given=False)}
    assert again == {
        "its port is taken", "one that was killed still has its memory", "one that was killed still has its lock"
    }  # fmt: skip
    given = {what for what, (said, _, _) in SAID.items() if trouble.may_pass(said, port_is_given=True)}
    assert again - given == {"its port is taken"}


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        (["creating directory", "initdb: error: could not write: No space left on device"], TemporaryError, "full"),
        (["creating directory", "initdb: error: invalid locale"], PermanentError, "initdb: error: invalid locale$"),
        ([], PermanentError, "could not make the data directory /data/state/data"),
    ],
)
def test_a_data_directory_that_could_not_be_made(said: list[str], kind: type[Exception], told: str):
    with pytest.raises(kind, match=told):
        raise trouble.initdb_failure(said, HERE)
