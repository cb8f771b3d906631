"""``inn cluster``."""

from pathlib import Path
from typing import Annotated

import typer

from innkeeper.cli import cordoning
from innkeeper.cli.client import path
from innkeeper.cli.command import Inn, Wait, command, noun
from innkeeper.cli.follow import follow
from innkeeper.model.errors import InvalidInput

cluster = noun("Clusters that run workspaces.")

_COLUMNS = ("name", "kind", "state", "activations", "capacity", "dns_peers", "access", "operation")


@command(cluster, "list")
def list_(inn: Inn) -> None:
    """All clusters, with what runs on them."""
    inn.show(inn.client.items("/v1/clusters"), _COLUMNS)


@command(cluster, "show")
def show(inn: Inn, cluster: cordoning.Name) -> None:
    """One cluster."""
    inn.show(inn.client.get(path("clusters", cluster)))


@command(cluster, "add")
def add(
    inn: Inn,
    name: Annotated[str, typer.Argument(help="A short unique name.", show_default=False)],
    kubeconfig: Annotated[
        Path | None, typer.Option(help="A kubeconfig file, where workers and the admin API read it.", dir_okay=False)
    ] = None,
    context: Annotated[str | None, typer.Option(help="One of its contexts.", show_default="its current one")] = None,
    in_cluster: Annotated[bool, typer.Option("--in-cluster", help="The cluster that Innkeeper runs in.")] = False,
    capacity: Annotated[int | None, typer.Option(help="Workspaces awake on it at once.", show_default="1000")] = None,
    dns_peer: Annotated[
        list[str] | None, typer.Option(help="Address block of its DNS servers; again for more.", show_default="found")
    ] = None,
) -> None:
    """Register a Kubernetes cluster, after a look at its version, our rights there and its DNS servers."""
    if in_cluster == (kubeconfig is not None):
        raise InvalidInput("say how it is reached: --kubeconfig FILE, or --in-cluster")
    if context is not None and kubeconfig is None:
        raise InvalidInput("--context names a context of --kubeconfig FILE")
    access = "in-cluster" if kubeconfig is None else f"kubeconfig:{kubeconfig.absolute()}"
    body = {
        "name": name,
        "access": access + (f"#{context}" if context else ""),
        "capacity": capacity,
        "dns_peers": dns_peer or [],
    }
    made = inn.client.post("/v1/clusters", body).body
    inn.done(f"cluster {made['name']} is {made['id']}; whether it keeps workspaces apart: inn doctor", made)


cordoning.install(cluster, "cluster", uncordoned="Place workspaces on it again; a drain of it ends where it is.")


@command(cluster, "drain")
def drain(inn: Inn, cluster: cordoning.Name, wait: Wait = False) -> None:
    """Move everything that is awake on it elsewhere, requests held meanwhile; then it is cordoned and empty."""
    operation = inn.client.post(path("clusters", cluster, "drain")).body
    if wait:
        ended = follow(inn.waiting(), operation["id"], title=f"drain {cluster}")
        inn.done(f"cluster {cluster} is drained: nothing is left there", ended)
        return
    inn.done(f"cluster {cluster} is being drained; follow it with inn operation follow {operation['id']}", operation)
