"""An application as its vendor describes it, and how its environment is rendered for one activation.

``control/appspec.py`` parses the YAML into these; runtimes render the environment and start the process.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

PLACEHOLDERS = frozenset(
    {
        "database_url",
        "database_host",
        "database_port",
        "database_name",
        "database_user",
        "database_password",
        "host",
        "port",
        "url",
        "slug",
    }
)
"""Names that an ``env`` value may use in braces; anything else in braces is an error when the spec is read."""


@dataclass(frozen=True, slots=True)
class Health:
    """How to ask whether the application serves. ``start_timeout`` in seconds from the start of the process."""

    path: str = "/"
    start_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """A secret the application keeps for life: made once, sealed at rest, given as an environment variable."""

    name: str
    show: Literal["owner", "nobody"] = "nobody"


@dataclass(frozen=True, slots=True)
class Resources:
    """Kubernetes quantities, as the vendor wrote them (checked for form when the spec is read)."""

    requests: Mapping[str, str] = field(default_factory=dict[str, str])
    limits: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class EgressRule:
    """One destination the application may reach besides DNS and its own database."""

    cidr: str
    port: int


NEVER_OUT = (
    "0.0.0.0/8",
    "100.100.100.200/32",  # metadata of Alibaba's cloud
    "127.0.0.0/8",
    "168.63.129.16/32",  # the host's agent in Azure
    "169.254.0.0/16",  # link-local: metadata services
    "192.0.0.0/24",  # metadata of Oracle's cloud
    "224.0.0.0/4",
    "::1/128",
    "fd00:ec2::254/128",  # metadata of Amazon's cloud
    "fe80::/10",
)
"""What no ``EgressRule`` leads to, whatever the vendor lists: the machine itself, its link, metadata services."""


@dataclass(frozen=True, slots=True)
class IdleRules:
    """What does not count as traffic: user agents that contain one of these, and these exact paths."""

    probe_agents: tuple[str, ...] = ()
    ignore_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class App:
    """One version of an application. ``directory`` is where ``command`` is relative to (local mode only)."""

    name: str
    version: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    directory: str = ""
    user: int = 10001
    port: int = 8080
    health: Health = field(default_factory=Health)
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: tuple[SecretSpec, ...] = ()
    resources: Resources = field(default_factory=Resources)
    writable: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    connections: int = 10
    egress: Literal["internet", "none"] | tuple[EgressRule, ...] = "internet"
    singleton: Literal["relaxed", "strict"] = "relaxed"
    idle: IdleRules = field(default_factory=IdleRules)


def render_env(app: App, values: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """The exact environment of one activation's process: the spec's ``env`` filled in, then the secrets.

    ``values`` holds every name of ``PLACEHOLDERS``; a missing one is a programming error (KeyError).
    """
    env = {name: _fill(template, values) for name, template in app.env.items()}
    return env | {spec.name: secrets[spec.name] for spec in app.secrets}


def _fill(template: str, values: Mapping[str, str]) -> str:
    # Not str.format: a vendor's value may hold braces of its own ("{{" is not ours to interpret), and attribute
    # access in a format string ({x.y}) must never reach an object.
    for name in PLACEHOLDERS:
        marker = "{" + name + "}"
        if marker in template:
            template = template.replace(marker, values[name])
    return template
