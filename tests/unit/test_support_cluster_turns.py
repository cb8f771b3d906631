"""Many at once, or one alone: what keeps a test that kills an API server from failing the others."""

import fcntl
import threading

import pytest

from support.cluster_turns import Turns
from support.waiting import eventually


@pytest.fixture
def turns(tmp_path):
    (tmp_path / "run").mkdir()
    return lambda: Turns(tmp_path)


class Worker(threading.Thread):
    """Takes a turn, says so, and keeps it until told to leave."""

    def __init__(self, turn):
        super().__init__(daemon=True)
        self.turn, self.inside, self.leave = turn, threading.Event(), threading.Event()
        self.start()

    def run(self):
        with self.turn:
            self.inside.set()
            self.leave.wait()

    def end(self):
        self.leave.set()
        self.join()


def gate_is_taken(directory):
    with (directory / "run" / "gate.lock").open("w") as gate:
        try:
            fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_many_work_together(turns):
    workers = [Worker(turns().together()) for _ in range(3)]
    for worker in workers:
        eventually(worker.inside.is_set)
    for worker in workers:
        worker.end()


def test_one_alone_waits_for_the_others_and_keeps_later_ones_away(turns, tmp_path):
    first = Worker(turns().together())
    eventually(first.inside.is_set)

    alone = Worker(turns().exclusively())
    eventually(lambda: gate_is_taken(tmp_path))
    assert not alone.inside.wait(0.2)
    later = Worker(turns().together())
    assert not later.inside.wait(0.2)

    first.end()
    eventually(alone.inside.is_set)
    assert not later.inside.is_set()
    alone.end()
    eventually(later.inside.is_set)
    later.end()


def test_who_has_a_turn_does_not_wait_for_one_that_waits_for_it(turns):
    mine = turns()
    with mine.together():
        alone = Worker(turns().exclusively())
        assert not alone.inside.wait(0.2)
        with mine.together():
            assert not alone.inside.is_set()
        assert not alone.inside.wait(0.2)
    eventually(alone.inside.is_set)
    alone.end()


def test_nobody_waits_for_a_turn_of_its_own(turns):
    mine = turns()
    with mine.together(), pytest.raises(AssertionError, match="its own session"), mine.exclusively():
        pass
    with mine.exclusively():
        pass


def test_who_is_alone_may_have_a_sandbox(turns):
    mine = turns()
    with mine.exclusively(), mine.together():
        pass


def test_cluster_of_others_has_no_turns():
    with Turns(None).together():
        pass
