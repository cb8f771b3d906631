"""Clusters, what stands against one, and what a trial found, as routes/clusters.py takes and sends them."""

from typing import Literal

from pydantic import Field

from innkeeper.admin.schemas.base import Body, Page, Sent


class NewCluster(Body):
    name: str
    access: str = Field(description="in-cluster, kubeconfig:/PATH or kubeconfig:/PATH#CONTEXT, as workers reach it")
    capacity: int | None = Field(None, description="Activations at once")
    dns_peers: list[str] = Field([], description="Address blocks of its DNS servers, where they are not found")


class Cluster(Sent):
    id: str
    name: str
    kind: Literal["local", "kubernetes"]
    access: str
    state: Literal["open", "cordoned", "draining"]
    activations: int = Field(description="There now, each from its begin until its process is gone")
    capacity: int
    dns_peers: list[str]
    operation: str | None = Field(description="The drain under way")


class Clusters(Page):
    items: list[Cluster]


class ClusterCheck(Sent):
    cluster: str
    version: str | None
    missing: list[str] = Field(description="Rights that we lack there")
    dns_peers: list[str]
    problems: list[str] = Field(description="What stands against using it; empty: nothing")


class Tried(Sent):
    what: Literal["pod-security", "egress", "ingress"]
    enforced: bool | None = Field(description="null: it could not be found out")
    found: str


class ClusterTrial(Sent):
    cluster: str
    tried: list[Tried]
    egress_window_ms: int | None = Field(
        description="How long a new pod reached what its policy forbids; null: unknown"
    )
