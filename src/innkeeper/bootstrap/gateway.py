"""The gateway's agent, and a whole gateway where no supervisor starts HAProxy. Called by child.py, ``inn serve``."""

from innkeeper.adapters.local.leash import Tied
from innkeeper.bootstrap.local import Local
from innkeeper.gateway.agent import run_agent
from innkeeper.gateway.config import AGENT_SETTINGS
from innkeeper.gateway.settings import GatewaySettings


def attend_local(local: Local, tied: Tied) -> int:
    """The agent of ``inn dev``; the supervisor has written its settings together with HAProxy's."""
    tied.wait()
    settings = GatewaySettings.from_json((local.data.gateway / AGENT_SETTINGS).read_text(encoding="utf-8"))
    tied.ready()
    return run_agent(settings)
