"""The agent: the process beside HAProxy that makes it follow the route table. Entry point ``run_agent``.

It outlives HAProxy (a new life is registered and filled from nothing) and the database (awake workspaces are served
on, held requests wait), and another agent may take its place beside the same HAProxy: the maps and counters it finds
there, and the journal in its directory, are adopted.

SIGTERM and SIGINT: the gateway leaves; HAProxy accepts nothing more, running requests end, and its final counters are
committed. SIGHUP: only the agent ends, another will take over. SIGKILL is like SIGHUP.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Generator

from innkeeper.gateway.database import Database
from innkeeper.gateway.endpoint import Endpoint, serve
from innkeeper.gateway.haproxy import HaproxyAwayError
from innkeeper.gateway.life import Life
from innkeeper.gateway.settings import GatewaySettings
from innkeeper.gateway.sleepers import Sleepers
from innkeeper.gateway.wire import Asked, Forwarded
from innkeeper.model.errors import TemporaryError

LOCK = "agent.lock"

log = logging.getLogger("innkeeper.gateway.agent")


def run_agent(settings: GatewaySettings) -> int:
    """Run until told to go; the exit status. The working directory becomes the gateway's: sockets are relative."""
    os.chdir(settings.directory)
    with _alone() as alone:
        if not alone:
            sys.stderr.write(f"another agent already runs in {settings.directory}: stop it first\n")
            return 1
        return asyncio.run(Agent(settings).run())


class Agent:
    """Owns what outlives one life of HAProxy: sleepers, the HTTP doors, the database connections."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        # Apart, so that an awakening never queues behind a reading, nor a wake behind either.
        self._listening = Database(settings.database, "listening")
        self._following = Database(settings.database, "following")
        self._telling = Database(settings.database, "telling")
        # A wake that is asked for is asked for again every second while somebody waits: it may be lost with the server.
        self._waking = Database(settings.database, "waking", hasty=True)
        self._sleepers = Sleepers(settings, self._waking)
        self._life: Life | None = None
        self._leave = asyncio.Event()
        self._end = asyncio.Event()

    async def run(self) -> int:
        """The whole life of the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave.set)
        loop.add_signal_handler(signal.SIGHUP, self._end.set)
        endpoint = Endpoint(self._sleepers)
        await serve("wake.sock", endpoint.wake, Asked)
        await serve("pages.sock", endpoint.page, Forwarded)
        background = [
            asyncio.create_task(self._sleepers.run()),
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._live()),
        ]
        told = [asyncio.create_task(self._leave.wait()), asyncio.create_task(self._end.wait())]
        done, _ = await asyncio.wait([*background, *told], return_when=asyncio.FIRST_COMPLETED)
        for task in done & set(background):
            task.result()  # these never end but by an error of ours, which ends the process
        if self._leave.is_set() and self._life is not None:
            await self._life.leave()
        for task in (*background, *told):
            task.cancel()
        await asyncio.gather(*background, *told, return_exceptions=True)
        for database in (self._listening, self._following, self._telling, self._waking):
            await database.close()
        return 0

    async def _live(self) -> None:
        """One life of HAProxy after another."""
        complained = False
        while True:
            try:
                self._life = await Life.begin(self._settings, self._following, self._telling, self._sleepers)
                complained = False
                await self._life.run()
            except HaproxyAwayError as error:
                if self._life is not None or not complained:
                    log.warning("%s", error)
                complained = True
                self._life = None
                await asyncio.sleep(0.05)

    async def _listen(self) -> None:
        """Pass notifications on; whenever listening begins, something may have been missed."""
        delay = 0.1
        while True:
            try:
                async for channel in self._listening.listen("routes", "reads"):
                    delay = 0.1
                    life = self._life
                    if life is None:
                        continue
                    if channel is None:
                        life.follower.resync()
                    elif channel == "routes":
                        life.follower.wake_up()
                    else:
                        life.reader.ask()
            except TemporaryError as error:
                log.warning("the state database sends no notifications, looking now and then: %s", error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)


@contextlib.contextmanager
def _alone() -> Generator[bool]:
    """Whether no other agent runs on this directory: two would count everything twice. The kernel frees the lock."""
    with open(LOCK, "w", encoding="utf-8") as file:  # noqa: PTH123 - relative on purpose
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
