"""The ports that tests give to servers."""

import socket

from innkeeper.adapters.local import addresses, listening
from support import ports
from support.pace import MOST


def test_nobody_else_is_given_one_of_them():
    workers = [ports.of_worker(f"gw{number}") for number in range(MOST)]
    everyones = [port for one in workers for port in one]
    assert len(set(everyones)) == len(everyones)
    assert not set(everyones) & {*listening.CHOSEN, *addresses.PORTS}
    assert ports.of_worker(None) == workers[0]


def test_what_is_taken_is_not_given():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports.free_port()))
        port = taken.getsockname()[1]
        assert port not in {ports.free_port() for _ in range(ports.EACH)}
    assert port in {ports.free_port() for _ in range(ports.EACH)}  # the control
