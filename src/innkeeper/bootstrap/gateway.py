"""The gateway's agent, and a whole gateway where no supervisor starts HAProxy. Called by child.py and serve.py."""

import os
import signal
import subprocess
import threading

import structlog

from innkeeper.adapters.local.leash import Tied
from innkeeper.adapters.local.member import end_with_parent
from innkeeper.bootstrap.local import Local
from innkeeper.gateway.agent import run_agent
from innkeeper.gateway.config import AGENT_SETTINGS, haproxy_command, write_config
from innkeeper.gateway.settings import GatewaySettings
from innkeeper.model.domain import Domain
from innkeeper.model.errors import InvalidInput
from innkeeper.settings import GatewayProcessSettings

_END = 10.0
"""Seconds for HAProxy to end after the agent has left it quiet."""

log = structlog.get_logger()


def attend_local(local: Local, tied: Tied) -> int:
    """The agent of ``inn dev``; the supervisor has written its settings together with HAProxy's."""
    tied.wait()
    settings = GatewaySettings.from_json((local.data.gateway / AGENT_SETTINGS).read_text(encoding="utf-8"))
    tied.ready()
    return run_agent(settings)


def serve_gateway(process: GatewayProcessSettings, domain: Domain) -> int:
    """HAProxy and its agent until SIGTERM; the exit status. If HAProxy dies, so does the whole gateway.

    With HAProxy beside, in a container of its own, only its files are written and the agent is run: who starts HAProxy
    also starts it again, and the agent takes a new life for what it is. The files are the same at each start of the
    agent, and the maps in them empty, so an HAProxy that comes back between two agents reads nothing old.
    """
    settings = _settings(process, domain)
    write_config(settings)
    if process.haproxy == "beside":
        return run_agent(settings)
    haproxy = subprocess.Popen([*end_with_parent(), *haproxy_command(settings)], start_new_session=True)
    leaving = threading.Event()

    def watch() -> None:
        code = haproxy.wait()
        if not leaving.is_set():
            log.error("haproxy.ended", code=code)
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="haproxy", daemon=True).start()
    try:
        code = run_agent(settings)
    finally:
        died = haproxy.poll() is not None
        leaving.set()
        haproxy.terminate()
        try:
            haproxy.wait(_END)
        except subprocess.TimeoutExpired:
            haproxy.kill()
    return 1 if died else code


def _settings(process: GatewayProcessSettings, domain: Domain) -> GatewaySettings:
    try:
        return GatewaySettings(
            directory=process.directory,
            gateway_id=process.gateway_id,
            listen=process.listen,
            parent=domain.parent,
            database=process.dsn.reveal(),
            probe_secret=process.probe_secret.reveal(),
            static=process.static,
            scheme=domain.scheme,
            trusted=process.trusted,
            trusted_by=process.trusted_by,
            listen_probes=process.listen_probes,
            listen_tls=process.listen_tls,
            certificate=process.certificate,
            leave_linger=process.leave_linger,
            leave_grace=process.leave_grace,
        )
    except ValueError as error:
        raise InvalidInput(f"the gateway's settings are wrong: {error}") from None
