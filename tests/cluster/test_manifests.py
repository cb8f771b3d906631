"""A real API server takes every object the product writes, and Pod Security has nothing to say: dry-run apply."""

import pytest

from innkeeper.adapters.kubernetes.api import Api, ForbiddenError
from innkeeper.adapters.kubernetes.names import FIELD_MANAGER, collection
from innkeeper.model.errors import TemporaryError
from innkeeper.model.workspace import ActivationRef
from support.cluster import Sandbox
from support.kubernetes import manifests

pytestmark = pytest.mark.cluster


@pytest.fixture
def api(sandbox: Sandbox):
    api = Api(f"kubeconfig:{sandbox.cluster.kubeconfig}", cluster=sandbox.name)
    yield api
    api.close()


def test_every_object_is_taken_as_it_is(api: Api, sandbox: Sandbox):
    ref = ActivationRef(f"m{sandbox.name.removeprefix('test-')}", 1)
    made = manifests(ref, cluster=sandbox.name)
    api.create(made.pop("namespace"), collection=collection("Namespace"))
    for name, manifest in made.items():
        taken = api.apply(manifest, dryRun="All", fieldValidation="Strict")
        assert taken["metadata"]["labels"] == manifest["metadata"]["labels"], name
        assert _within(manifest.get("spec", {}), taken.get("spec", {})), name
        assert {one["manager"] for one in taken["metadata"]["managedFields"]} == {FIELD_MANAGER}, name
    pod = made["deployment"]["spec"]["template"]
    api.create(_pod(pod, str(ref)), collection=collection("Pod", str(ref)), dryRun="All")


def test_the_server_would_say_what_is_wrong(api: Api, sandbox: Sandbox):
    """The control: a word it does not know, and a pod that asks for more than `restricted` gives."""
    ref = ActivationRef(f"m{sandbox.name.removeprefix('test-')}", 1)
    made = manifests(ref, cluster=sandbox.name)
    api.create(made["namespace"], collection=collection("Namespace"))
    wrong = {**made["service"], "spec": {**made["service"]["spec"], "selectr": {}}}
    with pytest.raises(TemporaryError, match="selectr"):
        api.apply(wrong, dryRun="All", fieldValidation="Strict")
    pod = _pod(made["deployment"]["spec"]["template"], str(ref))
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(ForbiddenError, match="violates PodSecurity"):
        api.create(pod, collection=collection("Pod", str(ref)), dryRun="All")


def _pod(template: dict, namespace: str) -> dict:
    metadata = {**template["metadata"], "name": "one", "namespace": namespace}
    # The namespace's own account is not there in a dry run.
    spec = {**template["spec"], "serviceAccountName": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _within(wanted: object, taken: object) -> bool:
    """Whether the server kept all that was asked for; it adds defaults."""
    if isinstance(wanted, dict) and isinstance(taken, dict):
        return all(not value or _within(value, taken.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(taken, list):
        return len(wanted) == len(taken) and all(map(_within, wanted, taken))
    return wanted == taken
