"""Where a cluster is and who we are there, from what its row says: in-cluster identity or a kubeconfig.

Called when a cluster is first used. What is wrong is said for the person who registered the cluster, with the file.
"""

from pathlib import Path

import yaml
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.workspace import IN_CLUSTER

_KUBECONFIG = "kubeconfig:"

CONNECTIONS = 32
"""Kept open at once to one API server: sixteen converging workers and a start's parallel writes."""


def connect(access: str) -> client.ApiClient:
    """A client for ``in-cluster``, ``kubeconfig:PATH`` or ``kubeconfig:PATH#CONTEXT``; nothing is sent yet.

    ``PermanentError`` says what is wrong with the file; that its server answers is found out by the first call.
    """
    configuration = client.Configuration()
    if access == IN_CLUSTER:
        _in_cluster(configuration)
    elif access.startswith(_KUBECONFIG):
        path, _, context = access.removeprefix(_KUBECONFIG).partition("#")
        _kubeconfig(configuration, Path(path), context or None)
    else:
        raise PermanentError(
            f"access of a cluster is in-cluster or kubeconfig:PATH[#CONTEXT], not {access!r}", reason="cluster-access"
        )
    # Otherwise the client repeats by itself, and sleeps for as long as a Retry-After says.
    configuration.retries = False  # pyright: ignore[reportAttributeAccessIssue] - typed as a number only
    configuration.keep_alive = True
    configuration.connection_pool_maxsize = CONNECTIONS
    return client.ApiClient(configuration)


def _in_cluster(configuration: client.Configuration) -> None:
    try:
        config.load_incluster_config(configuration)  # pyright: ignore[reportArgumentType]
    except ConfigException as error:
        raise PermanentError(
            f"no in-cluster identity: this process does not run in a pod with a service account token ({error})",
            reason="cluster-access",
        ) from error


def _kubeconfig(configuration: client.Configuration, path: Path, context: str | None) -> None:
    if not path.is_absolute():
        raise _wrong(path, "the path must be absolute: workers do not share a working directory")
    try:
        path.read_bytes()
    except OSError as error:
        # A mount may come back; nothing else about a file mends itself.
        why = (error.strerror or "cannot be read").lower()
        raise TemporaryError(f"kubeconfig {path}: {why}", reason="cluster-access") from error
    try:
        config.load_kube_config(
            str(path),
            context=context,
            client_configuration=configuration,  # pyright: ignore[reportArgumentType]
            persist_config=False,
        )
    except ConfigException as error:
        raise _wrong(path, _short(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise _wrong(path, f"it is not a kubeconfig ({_short(error)})") from error


def _wrong(path: Path, why: str) -> PermanentError:
    return PermanentError(f"kubeconfig {path}: {why}", reason="cluster-access")


def _short(error: Exception) -> str:
    """The first line: a YAML error quotes the file, which holds keys."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
