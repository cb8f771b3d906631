"""The cluster's certificates and its kubeconfig, made anew for each cluster by openssl. Called by `make cluster`."""

import base64
import json
import subprocess
from pathlib import Path

from paths import API_PORT, HOST, KUBECONFIG, PKI, ClusterError

DAYS = "365"

_SERVER = f"subjectAltName=IP:127.0.0.1,IP:10.96.0.1,IP:{HOST},DNS:localhost,DNS:kubernetes.default.svc"
_CLIENT = "extendedKeyUsage=clientAuth"


def make() -> None:
    PKI.mkdir(mode=0o700)
    _openssl("req", "-x509", *_key("ca"), "-out", PKI / "ca.crt", "-subj", "/CN=innkeeper-test-ca", "-days", DAYS)
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", PKI / "sa.key")
    _certificate("server", "/CN=kube-apiserver", _SERVER)
    _certificate("admin", "/O=system:masters/CN=admin", _CLIENT)
    KUBECONFIG.touch(mode=0o600)
    KUBECONFIG.write_text(json.dumps(_kubeconfig(), indent=2) + "\n")


def _key(name: str) -> list[str | Path]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", PKI / f"{name}.key"]


def _certificate(name: str, subject: str, extension: str) -> None:
    request, extensions = PKI / f"{name}.csr", PKI / f"{name}.ext"
    extensions.write_text(extension + "\n")
    _openssl("req", *_key(name), "-out", request, "-subj", subject)
    issuer = ["-CA", PKI / "ca.crt", "-CAkey", PKI / "ca.key", "-CAcreateserial"]
    _openssl(
        "x509", "-req", "-in", request, *issuer, "-days", DAYS, "-extfile", extensions, "-out", PKI / f"{name}.crt"
    )


def _openssl(*arguments: str | Path) -> None:
    command: list[str | Path] = ["openssl", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")


def _kubeconfig() -> dict[str, object]:
    """JSON is YAML too."""
    server = {"server": f"https://127.0.0.1:{API_PORT}", "certificate-authority-data": _data("ca.crt")}
    user = {"client-certificate-data": _data("admin.crt"), "client-key-data": _data("admin.key")}
    name = "innkeeper-test"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": server}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "admin"}}],
        "current-context": name,
    }


def _data(name: str) -> str:
    return base64.b64encode((PKI / name).read_bytes()).decode()
