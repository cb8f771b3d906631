"""The gateway with HAProxy in a container of its own, from an image that has nothing of Innkeeper's in it.

`make images` makes one that is laid out as the official image; INN_TEST_HAPROXY_IMAGE names another, such as that one.
"""

import json
import os
import subprocess

import pytest

from support.cluster import TestCluster
from support.installed import RELEASE, installation
from support.knocking import Door, knocking

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

IMAGE = os.environ.get("INN_TEST_HAPROXY_IMAGE", "localhost/innkeeper-haproxy:dev")


def test_haproxy_beside_its_agent(cluster: TestCluster):
    with installation(cluster, suffix="beside") as product:

        def run(container: str, *command: str) -> subprocess.CompletedProcess[str]:
            words = ("exec", f"{RELEASE}-gateway-0", f"--container={container}", "--", *command)
            return product.kubectl(*words, check=False)

        product.install({"gateway": {"haproxyImage": IMAGE}})
        product.await_ready()
        assert "HAProxy version" in run("haproxy", "haproxy", "-v").stdout
        # None of the product is in it, and no HAProxy runs in the agent's container.
        assert run("haproxy", "inn", "--help").returncode != 0
        names = "import os; print([open(f'/proc/{p}/comm').read().strip() for p in os.listdir('/proc') if p.isdigit()])"
        assert "haproxy" not in run("gateway", "python3", "-c", names).stdout

        def pods() -> set[str]:
            selector = "--selector=app.kubernetes.io/component=gateway"
            listed = json.loads(product.kubectl("get", "pods", selector, "--output=json").stdout)
            return {one["metadata"]["uid"] for one in listed["items"] if "deletionTimestamp" not in one["metadata"]}

        contact = {"contact_name": "Ada", "contact_email": "ada@localhost"}
        assert product.api("POST", "/v1/customers", {"name": "Acme", **contact}).status == 201
        product.done(product.api("POST", "/v1/workspaces", {"slug": "acme", "customer": "Acme"}))
        doors = {
            "a workspace": Door("acme.apps.localhost", "POST", "/count", '"count"'),
            "the portal": Door("hub.localhost", "GET", "/", "Sign in"),
        }
        before = pods()
        with knocking(product, doors) as tally:
            product.kubectl("rollout", "restart", f"statefulset/{RELEASE}-gateway")
            product.await_ready()
        assert not before & pods()  # the control: each was made anew
        assert tally.lost == 0, "\n".join(tally.words)
        assert product.ask("acme.apps.localhost", "/count").json()["count"] == tally.answered["a workspace"]
        assert all(tally.answered.values()), tally
        # Both handed in what they counted: who is replaced without is said in a worker's log.
        said = product.kubectl("logs", "--selector=app.kubernetes.io/component=worker", "--tail=-1").stdout
        assert "worker.started" in said
        assert "gateway.replaced" not in said
