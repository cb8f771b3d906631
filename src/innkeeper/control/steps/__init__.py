"""The reconciler's steps: each does one idempotent thing outside, or records one fact. ``model/plan.py`` orders them.

A step returns the workspace's row as it is afterwards, or None when the claim was lost (a newer fence, or a verb moved
it); a step that has to wait says so by raising ``Wait``.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from innkeeper.control.outside import Outside
from innkeeper.control.steps import destroying, falling, rising
from innkeeper.control.steps.common import SYSTEM, Wait
from innkeeper.model.plan import Seen, Step
from innkeeper.model.workspace import Workspace

__all__ = ["SYSTEM", "Wait", "run"]


def run(step: Step, outside: Outside, seen: Seen) -> Workspace | None:
    """Do one step."""
    return _STEPS[step](outside, seen)


def _rest(outside: Outside, seen: Seen) -> Workspace | None:
    return outside.workspace


_STEPS: Mapping[Step, Callable[[Outside, Seen], Workspace | None]] = MappingProxyType(
    {
        Step.CREATE_DATABASE: rising.create_database,
        Step.START: rising.start,
        Step.AWAIT_HEALTH: rising.await_health,
        Step.PUBLISH: rising.publish,
        Step.CLOSE_ROUTE: rising.close_route,
        Step.WITHDRAW: falling.withdraw,
        Step.AWAIT_GATEWAYS: falling.await_gateways,
        Step.AWAIT_STREAMS: falling.await_streams,
        Step.REPUBLISH: falling.republish,
        Step.END: falling.end,
        Step.STOP: falling.stop,
        Step.CLOSE_LOGIN: falling.close_login,
        Step.FINISH_SLEEP: falling.finish_sleep,
        Step.DROP_DATABASE: destroying.drop_database,
        Step.FINISH_PURGE: destroying.finish_purge,
        Step.REST: _rest,
    }
)
