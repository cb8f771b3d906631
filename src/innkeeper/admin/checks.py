"""Runs checks of apps in threads of this process. Made by app.py, used by routes/apps.py."""

import threading
from concurrent.futures import ThreadPoolExecutor

import structlog

from innkeeper.admin.services import AdminServices
from innkeeper.control import checks
from innkeeper.control.checks import Asked, Tools
from innkeeper.model.errors import InnkeeperError

log = structlog.get_logger()

AT_ONCE = 2
"""Checks that run at the same time; each starts an application and asks it with many clients."""


AGAIN = 5.0
"""Seconds until what an earlier process left is looked at again: the state database was away, or it is still held."""


class CheckRunner:
    """``tools``: None if this process does not reach the clusters and the instances, and so cannot run checks."""

    def __init__(self, services: AdminServices) -> None:
        self.tools: Tools | None = None
        runtimes, servers, health = services.runtimes, services.servers, services.health
        if runtimes is not None and servers is not None and health is not None:
            self.tools = Tools(services.database, runtimes, servers, health, services.domain)
        self._stopping = threading.Event()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="check")
        self._recovery = ThreadPoolExecutor(1, thread_name_prefix="check-recovery")

    def begin(self, tools: Tools, asked: Asked) -> None:
        """Run it as soon as a thread is free."""
        self._threads.submit(self._run, tools, asked)

    def recover(self) -> None:
        """End what an earlier process left, beside everything else."""
        if self.tools is not None:
            self._recovery.submit(self._recover, self.tools)

    def close(self) -> None:
        """End what runs after its present question, cleaned up."""
        self._stopping.set()
        for threads in (self._threads, self._recovery):
            threads.shutdown(wait=True, cancel_futures=True)

    def _run(self, tools: Tools, asked: Asked) -> None:
        try:
            checks.run(tools, asked, stopping=self._stopping.is_set)
        except InnkeeperError as error:
            log.warning("check.failed", operation=asked.operation.id, error=str(error))
        except Exception:
            log.exception("check.defect", operation=asked.operation.id)
        else:
            return
        # Where the state database broke it off, its end could not be written down.
        self._recover(tools, {asked.operation.id})

    def _recover(self, tools: Tools, left: set[str] | None = None) -> None:
        while not self._stopping.is_set() and left != set():
            try:
                left = checks.recover(tools, left)
            except InnkeeperError as error:
                log.warning("check.not-recovered", error=str(error))
            except Exception:  # nobody asks this thread what became of it
                log.exception("check.recovery-defect")
                return
            if left != set():
                self._stopping.wait(AGAIN)
