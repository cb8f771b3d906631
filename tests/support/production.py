"""What an installation in production finds: PostgreSQL servers and an issuer with TLS, a relay. For tests/cluster.

Their certificates are of a private authority. All of it runs in a namespace that is not the release's; the release is
told by Secrets, as the chart's README says.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from innkeeper.bootstrap.prepare import sample_spec
from support.helm import Object
from support.installed import PATIENCE, REGISTRY, TAG, Installation

DOMAIN = "example.test"
ISSUER = f"https://login.{DOMAIN}"
IMAGE = f"{REGISTRY}/innkeeper-evaluation:{TAG}"
PASSWORD = "of-an-administrator"
CLIENT_SECRET = "of-the-client-at-the-issuer"
FRONT = Path(__file__).with_name("tls_front.py")

RESTRICTED: Object = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@dataclass(frozen=True, slots=True)
class Outside:
    """``namespace``: where it runs."""

    product: Installation
    namespace: str

    def address(self, name: str) -> str:
        return f"{name}.{self.namespace}.svc.cluster.local"

    def start(self) -> None:
        """Everything, and the Secrets in the release's namespace."""
        authority, certificate, key = certificates(*map(self.address, ("state", "pool", "issuer")))
        self.secret(self.namespace, "tls", {"certificate": certificate, "key": key})
        objects = [one for name in ("state", "pool") for one in self.server(name)]
        issuer = {
            "INN_OIDC_ISSUER": ISSUER,
            "INN_OIDC_CLIENT_ID": "innkeeper",
            "INN_OIDC_CLIENT_SECRET": CLIENT_SECRET,
            "INN_HUB_URL": f"https://hub.{DOMAIN}",
        }
        serves = [listening(container("issuer", issuer), 8000), front("https", 8443, 8000)]
        objects += self.pod("issuer", serves, port=8443)
        objects += self.pod("relay", [listening(container("outbox", {}), 2525)], port=2525)
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.product.cluster.kubectl("apply", "--namespace", self.namespace, "--filename=-", input=listed)
        pods = ("wait", "pod", "--all", "--for=condition=Ready", f"--timeout={PATIENCE:.0f}s")
        self.product.cluster.kubectl(*pods, "--namespace", self.namespace)
        self.tell(authority)

    def tell(self, authority: str) -> None:
        """The Secrets that the values name."""
        home = self.product.namespace

        def dsn(user: str, database: str, *, server: str, folder: str, password: str = "its-own") -> str:
            trust = f"sslmode=verify-full&sslrootcert=/etc/innkeeper/{folder}/ca.crt"
            return f"postgresql://{user}:{password}@{self.address(server)}:5432/{database}?{trust}"

        state = {
            key: dsn(f"innkeeper_{role}", "innkeeper", server="state", folder="state")
            for key, role in (("dsn", "app"), ("ownerDsn", "owner"), ("gatewayDsn", "gateway"))
        }
        state["adminDsn"] = dsn("postgres", "postgres", server="state", folder="state", password=PASSWORD)
        pool = dsn("postgres", "postgres", server="pool", folder="instances/pool-1", password=PASSWORD)
        self.secret(home, "the-state", {**state, "root.pem": authority})
        self.secret(home, "the-pool", {"dsn": pool, "root.pem": authority})
        self.secret(home, "the-keys", {"keys": "0123abcd " + "A" * 43 + "=\n"})
        self.secret(home, "the-client", {"clientSecret": CLIENT_SECRET})
        self.secret(home, "the-trust", {"root.pem": authority})
        self.secret(home, "the-relay", {"url": f"smtp://{self.address('relay')}:2525"})

    def values(self) -> Object:
        sample = yaml.safe_load(sample_spec().read_text())
        return {
            "evaluation": {"enabled": False},
            "domain": DOMAIN,
            "state": {"existingSecret": "the-state", "keys": {"admin": "adminDsn", "ca": "root.pem"}},
            "encryption": {"existingSecret": "the-keys"},
            "oidc": {
                "issuer": ISSUER,
                "existingSecret": "the-client",
                "backChannel": f"https://{self.address('issuer')}:8443",
            },
            "trustedCA": {"existingSecret": "the-trust", "key": "root.pem"},
            "mail": {"existingSecret": "the-relay", "operator": f"operator@{DOMAIN}"},
            "instances": [
                {
                    "name": "pool-1",
                    "host": self.address("pool"),
                    "existingSecret": "the-pool",
                    "caKey": "root.pem",
                    "sslMode": "require",
                }
            ],
            "apps": [{**sample, "image": f"{REGISTRY}/innkeeper-sample:{TAG}"}],
        }

    def secret(self, namespace: str, name: str, data: dict[str, str]) -> None:
        made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        self.product.cluster.kubectl("create", "--namespace", namespace, "--filename=-", input=json.dumps(made))

    def server(self, name: str) -> list[Object]:
        """A PostgreSQL, reached by TLS alone: it listens on the pod's own loopback."""
        postgres = container(
            "postgres",
            {"INN_POSTGRES_PASSWORD": PASSWORD, "INN_POSTGRES_PORT": "5433", "INN_LISTEN_HOST": "127.0.0.1"},
        )
        looks = "import socket; socket.create_connection(('127.0.0.1', 5433)).close()"
        postgres["readinessProbe"] = {"exec": {"command": ["python3", "-c", looks]}, "periodSeconds": 2}
        return self.pod(name, [postgres, front("postgresql", 5432, 5433)], port=5432)

    def pod(self, name: str, containers: list[Object], *, port: int) -> list[Object]:
        """It and its Service."""
        spec: Object = {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 5,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": containers,
            "volumes": [
                {"name": "work", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {}},
                {"name": "tls", "secret": {"secretName": "tls", "defaultMode": 0o440}},
            ],
        }
        metadata = {"name": name, "labels": {"app": name}}
        service = {"selector": {"app": name}, "ports": [{"port": port}]}
        return [
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service},
        ]


def container(serves: str, env: dict[str, str]) -> Object:
    return {
        "name": serves,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve", serves],
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "work", "mountPath": "/var/lib/innkeeper"}, {"name": "tmp", "mountPath": "/tmp"}],
    }


def front(protocol: str, port: int, inner: int) -> Object:
    """TLS for the container beside it."""
    made = container("tls", {})
    made["command"] = ["python3", "-c", FRONT.read_text()]
    made["args"] = [protocol, str(port), str(inner), "/tls/certificate", "/tls/key"]
    made["volumeMounts"].append({"name": "tls", "mountPath": "/tls", "readOnly": True})
    return listening(made, port)


def listening(container: Object, port: int) -> Object:
    """It is ready only once it listens."""
    return container | {"startupProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 120}}


def certificates(*names: str) -> tuple[str, str, str]:
    """(authority, certificate for the names, its key), as PEM."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "of the tests")])

    def signed(subject: x509.Name, public: Any, extension: x509.ExtensionType) -> str:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(extension, critical=True)
        )
        return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a database")])
    return (
        signed(issuer, authority_key.public_key(), x509.BasicConstraints(ca=True, path_length=0)),
        signed(subject, key.public_key(), x509.SubjectAlternativeName([x509.DNSName(name) for name in names])),
        pem,
    )
