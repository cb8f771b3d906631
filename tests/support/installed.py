"""The product installed by the chart on the tests' cluster, and people who use it. Used by tests/cluster/test_helm*.py.

Everything goes through a port-forward to a gateway, made anew when its pod goes, so any cluster will do. The
images are those that `make images LOAD=...` brought; INN_TEST_IMAGE_REGISTRY and INN_TEST_IMAGE_TAG name others.
INN_TEST_DNS_PEERS names the address blocks of a cluster's DNS servers, where those are no pods behind kube-dns.
"""

import http.client
import json
import os
import re
import subprocess
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode, urlsplit

from support.cluster import Sandbox, TestCluster, program
from support.helm import CHART, Object, merge
from support.settled import unsettled
from support.waiting import eventually

TAG = os.environ.get("INN_TEST_IMAGE_TAG", "dev")
REGISTRY = os.environ.get("INN_TEST_IMAGE_REGISTRY", "localhost")
"""The first part of the images' names."""

PORT = 8080
"""Of the addresses as people see them; the forwarded port is another."""
PATIENCE = 300.0
"""Seconds for pods to start on a busy machine: only how long a failure takes."""

RELEASE = "innkeeper"

UNREACHED = (OSError, http.client.HTTPException)
"""What asking raises while a gateway goes and another comes."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Installation:
    """One release in a namespace of its own; activations carry the sandbox's name as their cluster."""

    cluster: TestCluster
    sandbox: Sandbox
    namespace: str
    domain: str = "localhost"
    _port: int | None = None
    _forward: subprocess.Popen[str] | None = None
    _pod: str = ""
    _uid: str = ""
    token: str = ""

    def values(self, more: Object | None = None) -> Object:
        registered: Object = {"name": self.sandbox.name}
        if peers := "10.244.0.1/32" if self.cluster.ours else os.environ.get("INN_TEST_DNS_PEERS"):
            registered["dnsPeers"] = peers.split(",")
        base: Object = {
            "image": _image("innkeeper"),
            "gateway": {"image": _image("innkeeper-gateway")},
            "evaluation": {
                "enabled": True,
                "image": _image("innkeeper-evaluation"),
                "sampleImage": f"{REGISTRY}/innkeeper-sample:{TAG}",
            },
            "embedded": {"ephemeral": True},
            "cluster": registered,
            "logLevel": "INFO",
        }
        return merge(base, more or {})

    def helm(self, *arguments: str, values: Object | None = None, check: bool = True) -> str:
        """Helm's words; a failure shows the pods."""
        command = [str(program(self.cluster, "helm")), f"--kubeconfig={self.cluster.kubeconfig}", *arguments]
        command += ["--namespace", self.namespace]
        if values is not None:
            command += ["--values", "-"]
        done = subprocess.run(
            command,
            input=None if values is None else json.dumps(values),
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.described()}"
        return done.stdout + done.stderr

    def install(self, more: Object | None = None) -> str:
        self.sandbox.on_exit(self.close)
        self.sandbox.on_exit(lambda: self.helm("uninstall", RELEASE, "--ignore-not-found", check=False))
        return self.helm("install", RELEASE, str(CHART), values=self.values(more))

    def upgrade(self, more: Object | None = None) -> str:
        return self.helm("upgrade", RELEASE, str(CHART), values=self.values(more))

    def await_ready(self) -> None:
        """All pods are, and who asks at a gateway reaches what is behind it."""
        self.await_pods()
        eventually(
            lambda: self.ask(f"hub.{self.domain}", "/readyz").status == 200,
            timeout=PATIENCE,
            poll=0.2,
            retry_on=UNREACHED,
            describe=self.described,
        )

    def await_pods(self) -> None:
        """Every pod of the release, an evaluation's issuer and outbox too, is as it was last told to be and reached."""
        of_release = f"--selector=app.kubernetes.io/instance={RELEASE}"
        deployments = self.kubectl("get", "deployments", of_release, "--output=name").stdout.split()
        assert "deployment.apps/innkeeper-hub" in deployments
        for what in (*deployments, "statefulset/innkeeper-gateway"):
            done = self.kubectl("rollout", "status", what, f"--timeout={PATIENCE:.0f}s", check=False)
            assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.described()}"
        eventually(
            lambda: not unsettled(self.kubectl, RELEASE),
            timeout=PATIENCE,
            poll=0.5,
            describe=lambda: f"{unsettled(self.kubectl, RELEASE)}\n{self.described()}",
        )

    def kubectl(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, check=check, **options)

    def described(self) -> str:
        """Pods, what is wrong, and last words: for a failure."""
        said = [
            self.kubectl("get", "pods", "--output=wide", check=False).stdout,
            self.kubectl("get", "events", "--field-selector=type=Warning", check=False).stdout[-3000:],
        ]
        for component in ("setup", "worker", "gateway", "canary"):
            selector = f"app.kubernetes.io/component={component}"
            done = self.kubectl("logs", f"--selector={selector}", "--tail=15", "--prefix", check=False)
            said.append(done.stdout[-4000:])
        return "\n".join(said)

    # --- asking ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the port-forward."""
        forward, self._forward, self._port = self._forward, None, None
        if forward is not None:
            forward.terminate()
            forward.wait()
            if forward.stdout is not None:
                forward.stdout.close()

    def _gone(self) -> bool:
        """Whether a port-forward leads to a pod that is no more, or on its way out."""
        if not self._pod:
            return False
        found = self.kubectl("get", "pod", self._pod, "--output=json", check=False)
        metadata = json.loads(found.stdout)["metadata"] if found.returncode == 0 else {"deletionTimestamp": "gone"}
        return "deletionTimestamp" in metadata or metadata["uid"] != self._uid

    def port(self) -> int:
        """Of a port-forward to a gateway that is ready."""
        if self._forward is not None and self._forward.poll() is None and self._port is not None:
            return self._port
        self.close()
        kubectl = str(program(self.cluster, "kubectl"))
        self._pod, self._uid = self._gateway()
        self._forward = subprocess.Popen(
            [
                *(kubectl, f"--kubeconfig={self.cluster.kubeconfig}", "--namespace", self.namespace),
                *("port-forward", "--address=127.0.0.1", f"pod/{self._pod}", ":8080"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        stdout = self._forward.stdout
        assert stdout is not None
        line = stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        if found is None:  # its pod went in this very moment
            self.close()
            raise ConnectionRefusedError(line)
        threading.Thread(target=_drain, args=(stdout,), daemon=True).start()
        self._port = int(found[1])
        return self._port

    def _gateway(self) -> tuple[str, str]:
        """Name and UID of a gateway's pod that is ready, as the Service would choose one."""

        def look() -> tuple[str, str] | None:
            selector = "app.kubernetes.io/component=gateway"
            listed = self.kubectl("get", "pods", f"--selector={selector}", "--output=json").stdout
            for pod in json.loads(listed)["items"]:
                conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
                if conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
                    return pod["metadata"]["name"], pod["metadata"]["uid"]
            return None

        found = eventually(look, timeout=PATIENCE, poll=0.5, describe=self.described)
        assert found is not None
        return found

    def ask(
        self, host: str, path: str = "/", *, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Answer:
        """One request through the gateway, as for http://HOST:8080 (in production: https://HOST)."""
        if self._gone():
            self.close()
        connection = http.client.HTTPConnection("127.0.0.1", self.port(), timeout=90)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers={"Host": self.address(host), **sent})
            response = connection.getresponse()
            return Answer(response.status, response.msg, response.read().decode(errors="replace"))
        except UNREACHED:
            self.close()  # a port-forward outlives its pod as a door to nowhere
            raise
        finally:
            connection.close()

    def address(self, host: str) -> str:
        """As a browser names it."""
        return f"{host}:{PORT}" if self.domain == "localhost" else host

    def api(self, method: str, path: str, body: object = None) -> Answer:
        """The admin API, with the installation's first token."""
        token = self.first_token()
        data = None if body is None else json.dumps(body).encode()
        kind = {} if data is None else {"Content_Type": "application/json"}
        return self.ask(f"admin.{self.domain}", path, method=method, body=data, Authorization=f"Bearer {token}", **kind)

    def first_token(self) -> str:
        """Asked for once: there is no second one."""
        if not self.token:
            self.token = self._inn("token", "create", "--bootstrap").strip()
        return self.token

    def inn(self, *words: str, check: bool = True) -> str:
        """A command in the admin API's pod, as the notes say it; its standard output."""
        return self._inn(*words, check=check, token=self.first_token())

    def _inn(self, *words: str, check: bool = True, token: str = "") -> str:
        by = ["env", f"INN_TOKEN={token}"] if token else []
        return self.kubectl("exec", "deployment/innkeeper-admin", "--", *by, "inn", *words, check=check).stdout

    def app(self, verb: str, spec: Object, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`inn app add|check FILE`, as somebody with the spec in a file of that pod."""
        command = f"cat > /tmp/app.yaml && exec env INN_TOKEN={self.first_token()} inn app {verb} /tmp/app.yaml"
        where = ("exec", "--stdin", "deployment/innkeeper-admin", "--", "sh", "-c", command)
        return self.kubectl(*where, input=json.dumps(spec), check=check)

    def workspace(self, slug: str) -> Any:
        return self.api("GET", f"/v1/workspaces/{slug}").json()

    def reaches(self, slug: str, state: str) -> Any:
        """The workspace, once it is in that state."""

        def look() -> Any:
            found = self.workspace(slug)
            return found if found.get("state") == state else None

        def why() -> str:
            return f"{slug} is {state}: {self.workspace(slug)}\n{self.described()}"

        return eventually(look, timeout=PATIENCE, poll=0.3, retry_on=UNREACHED, describe=why)

    def done(self, answer: Answer) -> None:
        """What was asked for has come to a good end."""
        assert answer.status == 202, answer.text
        where = answer.headers["Location"]

        def over() -> Any:
            found = self.api("GET", where).json()
            return found if found["state"] in {"done", "failed", "cancelled"} else None

        ended = eventually(over, timeout=PATIENCE, poll=0.3, retry_on=UNREACHED)
        assert ended["state"] == "done", f"{ended}\n{self.described()}"


@dataclass
class Person:
    """Somebody with a browser: cookies by host, redirects followed over hosts, forms filled in as they stand."""

    installation: Installation
    cookies: dict[str, SimpleCookie] = field(default_factory=dict[str, SimpleCookie])
    at: str = ""
    page: str = ""

    def open(self, url: str, form: dict[str, str] | None = None) -> Answer:
        """Follow redirects to a page."""
        for _ in range(10):
            parts = urlsplit(url)
            assert (parts.scheme, parts.port) == ("http", PORT), url
            host = parts.hostname or ""
            jar = self.cookies.setdefault(host, SimpleCookie())
            headers = {"Cookie": "; ".join(f"{name}={morsel.value}" for name, morsel in jar.items())} if jar else {}
            body = None
            if form is not None:
                body = urlencode(form).encode()
                headers |= {"Content_Type": "application/x-www-form-urlencoded", "Origin": f"http://{host}:{PORT}"}
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            answer = self.installation.ask(
                host, path or "/", method="GET" if form is None else "POST", body=body, **headers
            )
            for line in answer.headers.get_all("Set-Cookie", []):
                jar.load(line)
            if answer.status not in {301, 302, 303, 307}:
                self.at, self.page = url, answer.text
                return answer
            target = answer.headers["Location"]
            url, form = target if "://" in target else f"http://{host}:{PORT}{target}", None
        raise AssertionError(f"too many redirects: {url}")

    def sign_in(self, name: str) -> None:
        """By the button of the hub, at the issuer, and back."""
        self.open("http://hub.localhost:8080/")
        self.open("http://hub.localhost:8080/auth/sign-in", {"return_to": "/"})
        assert urlsplit(self.at).hostname == "issuer.localhost", f"{self.at}: {self.page}"
        form = {"username": name, "password": name}
        transaction = re.search(r'name="transaction_id" value="([^"]+)"', self.page)
        if transaction:
            form["transaction_id"] = transaction[1]
        answer = self.open(self.at, form)
        assert urlsplit(self.at).hostname == "hub.localhost", f"{answer.status} {self.at}: {self.page}"

    def sign_up(self, organisation: str, slug: str) -> Answer:
        """Name the organisation and choose a slug; the page that shows the steps."""
        self.open("http://hub.localhost:8080/welcome")
        return self.submit("http://hub.localhost:8080/welcome", {"name": organisation, "slug": slug})

    def secret(self, slug: str, name: str) -> str:
        """As the hub shows it to the owner."""
        self.open("http://hub.localhost:8080/")
        self.submit(f"http://hub.localhost:8080/workspaces/{slug}/secrets/{name}", {})
        shown = re.search(r'class="value"[^>]*>([^<]+)<', self.page)
        assert shown is not None, self.page
        return shown[1]

    def submit(self, url: str, form: dict[str, str]) -> Answer:
        """A form of the page that is open, which says that it is from there."""
        csrf = re.search(r'name="csrf" value="([^"]+)"', self.page)
        assert csrf is not None, self.page
        return self.open(url, {"csrf": csrf[1], **form})


@contextmanager
def installation(cluster: TestCluster, *, suffix: str = "system", domain: str = "localhost") -> Generator[Installation]:
    """A namespace for a release; the release, if one was made, goes with it."""
    with cluster.sandbox() as sandbox:
        namespace = sandbox.namespace(suffix, restricted=True)
        made = Installation(cluster, sandbox, namespace, domain)
        try:
            yield made
        finally:
            made.close()


def _image(name: str) -> Object:
    return {"repository": f"{REGISTRY}/{name}", "tag": TAG}


def _drain(stdout: Iterator[str]) -> None:
    with suppress(ValueError):
        for _ in stdout:
            pass
