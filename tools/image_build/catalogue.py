"""The images there are, and what each is made from. Read by __main__.py; tests check it against the Dockerfiles."""

from dataclasses import dataclass

FOLDER = "infra/images"

PRODUCT = ("LICENSE", "README.md", "pyproject.toml", "src")


@dataclass(frozen=True, slots=True)
class Image:
    """``copied``: files and folders of the repository, besides requirements, that its Dockerfile copies.

    ``packages``: sets of requirements/*.txt, each with the set that is installed before it and need not be fetched
    again. ``needs``: a command that makes a copied file, where that is not in the repository.
    """

    name: str
    tags: tuple[str, ...]
    dockerfile: str
    target: str | None = None
    copied: tuple[str, ...] = ()
    packages: tuple[tuple[str, str | None], ...] = ()
    needs: tuple[str, ...] = ()
    for_tests: bool = False

    @property
    def references(self) -> list[str]:
        """Its full names. ``localhost`` is no registry: nothing asks anybody for it."""
        return [f"localhost/{self.name}:{tag}" for tag in self.tags]


_INNKEEPER = f"{FOLDER}/innkeeper/Dockerfile"
# All three targets see the same files: an engine without BuildKit builds the stages that a target does not need too.
_SETS: tuple[tuple[str, str | None], ...] = (
    ("runtime", None),
    ("gateway", "runtime"),
    ("evaluation", "runtime"),
    ("build", None),
)

IMAGES = (
    Image("innkeeper", ("dev",), _INNKEEPER, "innkeeper", PRODUCT, _SETS),
    Image("innkeeper-gateway", ("dev",), _INNKEEPER, "gateway", PRODUCT, _SETS),
    Image("innkeeper-evaluation", ("dev",), _INNKEEPER, "evaluation", PRODUCT, _SETS),
    Image(
        "innkeeper-sample",
        ("dev", "1.0.0"),  # the one in src/innkeeper/sample/app.yaml
        f"{FOLDER}/sample/Dockerfile",
        copied=("src/innkeeper/__init__.py", "src/innkeeper/sample"),
        packages=(("sample", None),),
    ),
    Image(
        "miniflux",
        ("2.3.5",),  # the one in examples/miniflux/app.yaml
        f"{FOLDER}/miniflux/Dockerfile.binary",
        copied=("examples/miniflux/miniflux",),
        needs=("make", "-C", "examples/miniflux"),
    ),
    Image(
        "innkeeper-probe",
        ("dev",),
        f"{FOLDER}/probe/Dockerfile",
        copied=(f"{FOLDER}/probe/probe.py",),
        for_tests=True,
    ),
    Image(
        "innkeeper-haproxy",
        ("dev",),
        f"{FOLDER}/haproxy/Dockerfile",
        packages=(("gateway", None),),
        for_tests=True,
    ),
    Image("innkeeper-python", ("dev",), f"{FOLDER}/python/Dockerfile", for_tests=True),
)
