"""Reads what a vendor writes about an application (INTERFACE, "App spec") into ``model.app.App``.

``load`` and ``parse`` are called when an app is added or checked: all faults at once, each with its field and what to
write instead. ``to_json`` and ``from_json`` are how the store keeps an App that was accepted.
"""

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from innkeeper.control.appspec_fields import Checker, Fault, Form, join, shown, suggestion
from innkeeper.control.appspec_yaml import Document, UnreadableError, read
from innkeeper.model.app import (
    NEVER_OUT,
    PLACEHOLDERS,
    App,
    EgressRule,
    Health,
    IdleRules,
    Resources,
    SecretSpec,
)
from innkeeper.model.errors import InvalidInput

API_VERSION = "innkeeper.dev/v1"

_KEYS = (
    *("apiVersion", "kind", "name", "version", "image", "command", "args", "user", "port", "health", "env", "secrets"),
    *("resources", "writable", "database", "egress", "singleton", "idle"),
)

_NAME = Form(re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?"), "a name of a-z, 0-9 and -, at most 40, from a letter on")
_VERSION = Form(re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"), "a version such as 2.3.5")
_IMAGE = Form(
    re.compile(r"[a-z0-9]([a-z0-9._:/-]{0,250}[a-z0-9])?(:[A-Za-z0-9_.-]{1,128})?(@sha256:[0-9a-f]{64})?"),
    "an image such as registry.example/app:1.2",
)
_WORD = Form(re.compile(r"[^\0]{1,4096}", re.DOTALL), "a text of at most 4096 characters")
_PATH = Form(re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,199}"), "a path such as /healthz, without spaces and query")
_AGENT = Form(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,99}"), "part of a user agent: letters, digits, ._/+- and spaces"
)
_DIRECTORY = Form(re.compile(r"(/[A-Za-z0-9._-]{1,100}){1,20}"), "a directory such as /tmp, not / itself")
_EXTENSION = Form(re.compile(r"[a-z][a-z0-9_-]{0,62}"), "the name of a PostgreSQL extension")
_VALUE = Form(re.compile(r"[^\0]{0,32768}", re.DOTALL), "a text without NUL, at most 32768 characters")
_VARIABLE = Form(re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}"), "a name of letters, digits and _")
_CPU = Form(re.compile(r"[1-9]\d{0,5}m|\d{1,3}(\.\d{1,3})?"), "processors such as 50m or 0.5")
_BYTES = Form(re.compile(r"[1-9]\d{0,14}(k|M|G|T|Ki|Mi|Gi|Ti)?"), "an amount such as 64Mi")
_QUANTITIES = {"cpu": _CPU, "memory": _BYTES, "ephemeral-storage": _BYTES}
_MULTIPLES = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}

_RESERVED_VARIABLES = frozenset(
    {"_", "BASHOPTS", "EUID", "IFS", "INNKEEPER_GATE", "LINENO", "OLDPWD", "OPTIND", "PPID", "PWD", "SHELLOPTS"}
    | {"SHLVL", "UID"}
)
"""Shells give these values of their own, in container entry points as in the local runtime's launcher."""

_BRACES = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.]*)\}")

_HIGHEST_UID = 2**31 - 1
_MOST_CONNECTIONS = 100


def load(path: Path) -> App:
    """The app that a file describes; ``InvalidInput`` lists every fault."""
    try:
        text = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise InvalidInput(f"app spec {path}: {reason}; give the path of a YAML file", field="file") from None
    return parse(text, directory=str(path.resolve().parent))


def parse(text: bytes, *, directory: str = "") -> App:
    """The app that a document describes. ``directory`` is what ``command`` is relative to."""
    try:
        document = read(text)
    except UnreadableError as error:
        raise _invalid([Fault("", f"not readable: {error}")]) from None
    check = Checker()
    app = _app(check, document, directory)
    if check.faults:
        raise _invalid(check.faults)
    return app


def warnings(app: App) -> list[str]:
    """What is accepted and may surprise, in words."""
    found: list[str] = []
    if app.image and moves(app.image):
        found.append(
            f"image: {app.image} has a tag that moves: two workspaces of this version may run different programs, and a"
            " wake may start another than before; name a fixed tag, or a digest (@sha256:...)"
        )
    return found


def moves(image: str) -> bool:
    """Whether the same name may mean another image tomorrow by custom: no tag, or ``latest``, and no digest."""
    name, _, digest = image.partition("@")
    _, _, tag = name.rpartition("/")[2].partition(":")
    return not digest and tag in ("", "latest")


def to_json(app: App) -> dict[str, Any]:
    """Plain data, for a jsonb column or an answer; ``from_json`` gives the same App again."""
    return dataclasses.asdict(app)


def from_json(data: Mapping[str, Any]) -> App:
    """The App that ``to_json`` made plain. It was checked when it was accepted."""
    egress = data["egress"]
    fields: dict[str, Any] = {
        **data,
        "command": tuple(data["command"]),
        "args": tuple(data["args"]),
        "health": Health(**data["health"]),
        "secrets": tuple(SecretSpec(**secret) for secret in data["secrets"]),
        "resources": Resources(**data["resources"]),
        "writable": tuple(data["writable"]),
        "extensions": tuple(data["extensions"]),
        "egress": egress if isinstance(egress, str) else tuple(EgressRule(**rule) for rule in egress),
        "idle": IdleRules(**{name: tuple(values) for name, values in data["idle"].items()}),
    }
    return App(**fields)


def _invalid(faults: list[Fault]) -> InvalidInput:
    shown_faults = "; ".join(str(fault) for fault in faults)
    return InvalidInput(
        f"app spec: {shown_faults}",
        field=faults[0].field,
        faults=[{"field": fault.field, "message": fault.message} for fault in faults],
    )


# --- the document -----------------------------------------------------------------------------------------------------


def _app(check: Checker, document: Document, directory: str) -> App:
    spec = check.mapping(document, "", _KEYS)
    for key, wanted in (("apiVersion", API_VERSION), ("kind", "App")):
        if spec.get(key) != wanted:
            check.fault(key, f"must be {wanted}, not {shown(spec.get(key, ''))}")
    for key in ("name", "version"):
        if key not in spec:
            check.fault(key, "is missing")
    if "command" not in spec and "image" not in spec:
        check.fault("command", "is missing; give a command (local mode), an image (Kubernetes) or both")
    default = App("", "")
    env = _env(check, spec.get("env", {}))
    return App(
        name=check.text(spec["name"], "name", _NAME) if "name" in spec else "",
        version=check.text(spec["version"], "version", _VERSION) if "version" in spec else "",
        image=check.text(spec["image"], "image", _IMAGE) if "image" in spec else "",
        command=_command(check, spec["command"]) if "command" in spec else (),
        args=check.texts(spec["args"], "args", _WORD) if "args" in spec else (),
        directory=directory,
        user=_user(check, spec["user"]) if "user" in spec else default.user,
        port=check.integer(spec["port"], "port", lowest=1, highest=65535) if "port" in spec else default.port,
        health=_health(check, spec.get("health", {})),
        env=env,
        secrets=_secrets(check, spec.get("secrets", {}), env),
        resources=_resources(check, spec.get("resources", {})),
        writable=_writable(check, spec["writable"]) if "writable" in spec else (),
        egress=_egress(check, spec.get("egress", "internet")),
        singleton="strict" if _singleton(check, spec.get("singleton", "relaxed")) == "strict" else "relaxed",
        idle=_idle(check, spec.get("idle", {})),
        **_database(check, spec.get("database", {})),
    )


def _command(check: Checker, value: Document) -> tuple[str, ...]:
    words = check.texts(value, "command", _WORD)
    if value == []:
        check.fault("command", "is empty; write the program, such as [./server]")
    return words


def _user(check: Checker, value: Document) -> int:
    if value == "0":
        check.fault("user", "must not be 0: nothing runs as root; write the number of an ordinary user, such as 10001")
        return 1
    return check.integer(value, "user", lowest=1, highest=_HIGHEST_UID)


def _health(check: Checker, value: Document) -> Health:
    spec = check.mapping(value, "health", ("path", "start_timeout"))
    default = Health()
    timeout = default.start_timeout
    if "start_timeout" in spec:
        timeout = check.duration(spec["start_timeout"], "health.start_timeout", lowest=1, highest=600)
    path = check.text(spec["path"], "health.path", _PATH) if "path" in spec else default.path
    return Health(path, timeout)


def _env(check: Checker, value: Document) -> dict[str, str]:
    spec = check.mapping(value, "env")
    return {
        name: _template(check, template, join("env", name))
        for name, template in spec.items()
        if _variable(check, name, "env")
    }


def _variable(check: Checker, name: str, path: str) -> bool:
    if not _VARIABLE.pattern.fullmatch(name):
        check.fault(join(path, name), f"must be {_VARIABLE.said}")
    elif name in _RESERVED_VARIABLES:
        check.fault(join(path, name), "is a variable that shells set themselves; use another name")
    else:
        return True
    return False


def _template(check: Checker, value: Document, path: str) -> str:
    text = check.text(value, path, _VALUE)
    for name in _BRACES.findall(text):
        if name not in PLACEHOLDERS:
            check.fault(path, f"{{{name}}} is not a placeholder{suggestion(name, PLACEHOLDERS)}")
    return text


def _secrets(check: Checker, value: Document, env: Mapping[str, str]) -> tuple[SecretSpec, ...]:
    found: list[SecretSpec] = []
    for name, options in check.mapping(value, "secrets").items():
        path = join("secrets", name)
        if not _variable(check, name, "secrets"):
            continue
        if name in env:
            check.fault(path, "is in env too; keep one")
        spec = check.mapping(options, path, ("generate", "show"))
        if spec.get("generate") != "true":
            check.fault(f"{path}.generate", "must be true: Innkeeper makes every secret itself")
        show = check.choice(spec.get("show", "nobody"), f"{path}.show", ("owner", "nobody"))
        found.append(SecretSpec(name, "owner" if show == "owner" else "nobody"))
    return tuple(found)


def _resources(check: Checker, value: Document) -> Resources:
    spec = check.mapping(value, "resources", ("requests", "limits"))
    requests = _quantities(check, spec.get("requests", {}), "resources.requests")
    limits = _quantities(check, spec.get("limits", {}), "resources.limits")
    for name in requests.keys() & limits.keys():
        if _amount(requests[name]) > _amount(limits[name]):
            check.fault(f"resources.limits.{name}", f"{limits[name]} is less than the request, {requests[name]}")
    return Resources(requests, limits)


def _quantities(check: Checker, value: Document, path: str) -> dict[str, str]:
    spec = check.mapping(value, path, _QUANTITIES)
    return {name: check.text(spec[name], join(path, name), _QUANTITIES[name]) for name in spec if name in _QUANTITIES}


def _amount(quantity: str) -> float:
    number = re.match(r"[\d.]*", quantity)
    digits = number[0] if number else ""
    return float(digits or 0) * _MULTIPLES.get(quantity[len(digits) :], 1)


def _writable(check: Checker, value: Document) -> tuple[str, ...]:
    found = check.texts(value, "writable", _DIRECTORY)
    for place, directory in enumerate(found):
        if ".." in PurePosixPath(directory).parts:
            check.fault(f"writable[{place}]", f"{directory!r} must not go up (..)")
        if directory and directory in found[:place]:
            check.fault(f"writable[{place}]", f"{directory!r} is there twice; keep one")
    return found


def _database(check: Checker, value: Document) -> dict[str, Any]:
    spec = check.mapping(value, "database", ("extensions", "connections"))
    found: dict[str, Any] = {}
    if "extensions" in spec:
        found["extensions"] = check.texts(spec["extensions"], "database.extensions", _EXTENSION)
    if "connections" in spec:
        found["connections"] = check.integer(
            spec["connections"], "database.connections", lowest=1, highest=_MOST_CONNECTIONS
        )
    return found


def _egress(check: Checker, value: Document) -> Literal["internet", "none"] | tuple[EgressRule, ...]:
    if value == "internet":
        return "internet"
    if value == "none":
        return "none"
    if not isinstance(value, list):
        check.fault("egress", f"must be internet, none or a list of {{cidr: ..., port: ...}}, not {shown(value)}")
        return "none"
    return tuple(_rule(check, rule, f"egress[{place}]") for place, rule in enumerate(value))


def _rule(check: Checker, value: Document, path: str) -> EgressRule:
    spec = check.mapping(value, path, ("cidr", "port"))
    cidr, port = spec.get("cidr", ""), spec.get("port", "")
    try:
        network = ipaddress.ip_network(cidr if isinstance(cidr, str) else "")
    except ValueError:
        check.fault(f"{path}.cidr", f"must be an address block such as 203.0.113.0/24, not {shown(cidr)}")
        network = ""
    else:
        never = _never_out(network)
        if never:
            why = f"lies in {never}, which no application may reach (the node itself, its link, a cloud's metadata)"
            check.fault(f"{path}.cidr", f"{network} {why}: leave it out")
    return EgressRule(str(network), check.integer(port, f"{path}.port", lowest=1, highest=65535))


def _never_out(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """The block of ``NEVER_OUT`` that it lies in, or nothing."""
    for block in NEVER_OUT:
        never = ipaddress.ip_network(block)
        if never.version == network.version and never.supernet_of(network):  # pyright: ignore[reportArgumentType]
            return block
    return ""


def _singleton(check: Checker, value: Document) -> str:
    return check.choice(value, "singleton", ("relaxed", "strict"))


def _idle(check: Checker, value: Document) -> IdleRules:
    spec = check.mapping(value, "idle", ("probe_agents", "ignore_paths"))
    agents = check.texts(spec["probe_agents"], "idle.probe_agents", _AGENT) if "probe_agents" in spec else ()
    paths = check.texts(spec["ignore_paths"], "idle.ignore_paths", _PATH) if "ignore_paths" in spec else ()
    return IdleRules(agents, paths)
