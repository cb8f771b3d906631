"""The development issuer as local mode runs it: a child on a free port, in a directory of its own."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from innkeeper.adapters.local.issuer import IssuerSetup, issuer_command, issuer_environment, prepare
from support.ports import free_port
from support.waiting import PATIENCE, eventually


@contextmanager
def development_issuer(directory: Path, redirect_uri: str) -> Generator[IssuerSetup]:
    setup = prepare(directory, port=free_port(), redirect_uris=[redirect_uri])
    output = (directory / "output.txt").open("wb")
    child = subprocess.Popen(
        issuer_command(setup), env=issuer_environment(), cwd=directory, stdout=output, stderr=subprocess.STDOUT
    )
    try:
        with httpx2.Client(trust_env=False) as client:
            eventually(
                lambda: (
                    child.poll() is not None or client.get(f"{setup.url}/.well-known/openid-configuration").is_success
                ),
                retry_on=httpx2.TransportError,
                describe=(directory / "output.txt").read_text,
            )
        assert child.poll() is None, (directory / "output.txt").read_text()
        yield setup
    finally:
        child.terminate()
        child.wait(timeout=PATIENCE)
        output.close()
