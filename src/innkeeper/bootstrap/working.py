"""The worker process. Called by child.py for local mode and by ``inn serve worker``."""

import signal
from contextlib import ExitStack
from dataclasses import replace

from innkeeper.adapters.anchor_file import AnchorFile
from innkeeper.adapters.local.leash import Tied
from innkeeper.bootstrap.house import local_house, local_state, opened_house, opened_state
from innkeeper.bootstrap.local import Local
from innkeeper.bootstrap.worker_probes import probes_answered
from innkeeper.model.domain import Domain
from innkeeper.settings import HouseSettings, ListenSettings, StateSettings
from innkeeper.worker import Worker, WorkerSettings

CONNECTIONS = 12
"""To the state database: one a converging thread, and the ticks'."""


def work(
    state: StateSettings,
    house: HouseSettings,
    domain: Domain,
    tied: Tied | None = None,
    *,
    listen: ListenSettings | None = None,
) -> None:
    """Run a worker until SIGTERM or SIGINT; every claim is given back before it returns.

    ``listen``: where /healthz and /readyz are answered, for an orchestrator.
    """
    with (
        opened_state(state, application="innkeeper worker") as database,
        opened_house(database, house, domain) as made,
        ExitStack() as stack,
    ):
        anchor = None if house.audit_anchor_file is None else AnchorFile(house.audit_anchor_file).keep
        worker = Worker(made, WorkerSettings(spares=house.spare_databases), anchor)
        if listen is not None:
            stack.enter_context(probes_answered(worker, database, listen))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: worker.stop())
        if tied is not None:
            tied.ready()
        worker.run()


def work_local(local: Local, tied: Tied, *, spares: int | None) -> None:
    """The worker of ``inn dev``. ``spares`` None: as many as anywhere."""
    tied.wait()
    house = local_house(local)
    if spares is not None:
        house = replace(house, spare_databases=spares)
    work(local_state(local, connections=CONNECTIONS), house, local.domain, tied)
