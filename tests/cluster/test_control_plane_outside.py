"""A control plane outside the cluster: `inn serve` processes reach it by the kubeconfig that it was added with."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from support.activations import SERVER
from support.kubernetes import PYTHON_IMAGE, Pods
from support.pods import PATIENCE
from support.ports import free_port
from support.serving import Serve, Settings, ended_cleanly, inn, status
from support.waiting import eventually

pytest_plugins = ["support.serving"]
pytestmark = pytest.mark.cluster

APP = {
    "apiVersion": "innkeeper.dev/v1",
    "kind": "App",
    "name": "server",
    "version": "1.0.0",
    "image": PYTHON_IMAGE,
    "args": ["python3", "-ISu", "-c", SERVER],
    "port": 8080,
    "health": {"path": "/healthz", "start_timeout": "120s"},
    "env": {"PORT": "{port}", "HOST": "{host}"},
}


def test_it_runs_workspaces_on_a_cluster_that_was_added_by_its_kubeconfig(
    settings: Settings, serve: Serve, pods: Pods, own_server: EmbeddedPostgres, tmp_path: Path
):
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(APP))
    api, gateway = free_port(), free_port()
    settings |= {"INN_SYSTEM_NAMESPACE": pods.system_namespace, "INN_WORKSPACES_DOMAIN": "apps.localhost"}
    admin = serve("admin", listen_port=api)
    worker = serve("worker", listen_port=free_port())
    front = serve("gateway", gateway_listen=f"127.0.0.1:{gateway}")
    eventually(lambda: status(api, "/readyz") == 200, retry_on=OSError, timeout=PATIENCE)
    eventually(lambda: status(gateway, "/.innkeeper/readyz") == 200, retry_on=OSError, timeout=PATIENCE)
    settings |= {"INN_URL": f"http://127.0.0.1:{api}"}
    settings |= {"INN_TOKEN": said(settings, "token", "create", "--bootstrap").strip()}

    kubeconfig = str(pods.sandbox.cluster.kubeconfig)
    said(settings, "cluster", "add", pods.cluster, "--kubeconfig", kubeconfig)
    (cluster,) = shown(settings, "cluster", "list")
    assert (cluster["state"], cluster["access"]) == ("open", f"kubeconfig:{kubeconfig}")
    # Found, since nobody said.
    assert cluster["dns_peers"] == ["10.244.0.1/32"]
    # A server that no other test has left anything on: drift is asked of all that is there.
    (tmp_path / "admin-dsn").write_text(own_server.dsn())
    where = ("--host", "127.0.0.1", "--port", str(own_server.port))
    said(settings, "instance", "add", "pool", *where, "--admin-secret", f"file:{tmp_path}/admin-dsn")
    said(settings, "app", "add", str(tmp_path / "app.yaml"))
    said(settings, "customer", "create", "Acme", "--contact-name", "Alice", "--contact-email", "alice@acme.example")

    said(settings, "workspace", "create", "acme", "--customer", "Acme", "--wait")
    acme = shown(settings, "workspace", "show", "acme")
    assert (acme["state"], acme["cluster"]) == ("active", pods.cluster)
    assert status(gateway, "/", host="acme.apps.localhost") == 200

    said(settings, "workspace", "deactivate", "acme", "--wait")
    assert pods.core.list_namespaced_pod(f"ws-{acme['id']}-1").items == []
    assert status(gateway, "/", host="acme.apps.localhost") == 200
    # Its kubelet says later that it runs.
    eventually(
        lambda: [pod.status.phase for pod in pods.core.list_namespaced_pod(f"ws-{acme['id']}-2").items] == ["Running"],
        timeout=PATIENCE,
    )
    assert shown(settings, "drift") == []
    for process in (worker, admin, front):
        ended_cleanly(process)


def said(settings: Settings, *words: str) -> str:
    done = inn(settings, *words)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def shown(settings: Settings, *words: str) -> Any:
    return json.loads(said(settings, *words, "--output", "json"))
