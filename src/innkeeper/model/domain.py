"""Where workspaces live: the parent domain under which each has a host of its own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Domain:
    """``parent`` such as ``apps.localhost``; ``port`` as browsers see it (None: the scheme's own)."""

    parent: str
    scheme: str = "https"
    port: int | None = None

    def host(self, slug: str) -> str:
        """The host that gateways route, without port, in lower case."""
        return f"{slug}.{self.parent}"

    def url(self, slug: str) -> str:
        """Where people find the workspace, without a trailing slash."""
        return f"{self.scheme}://{self.host(slug)}" + (f":{self.port}" if self.port else "")
