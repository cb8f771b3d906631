"""PIN=1 with a registry: a base is accepted once by its digest, and a tag that moves is not followed.

buildah pulls from the tests' own registry on loopback; everything it keeps is in a store of the test's.
"""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.image_build import ImagesError, base
from tools.image_build.engine import Engine

from support.registry import Registry, running_registry


def small_archive(path: Path) -> Path:
    """An OCI archive of an image with one file."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as file:
        about = tarfile.TarInfo("etc/base")
        about.size = len(content := b"a base\n")
        file.addfile(about, io.BytesIO(content))
    packed = gzip.compress(layer.getvalue(), mtime=0)
    blobs: dict[str, bytes] = {}

    def described(kind: str, blob: bytes) -> dict[str, object]:
        digest = hashlib.sha256(blob).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = blob
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(blob)}

    diff = "sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", json.dumps(config).encode()),
        "layers": [described("layer.v1.tar+gzip", packed)],
    }
    index = {"schemaVersion": 2, "manifests": [described("manifest.v1+json", json.dumps(manifest).encode())]}
    with tarfile.open(path, "w") as file:
        for name, blob in [*blobs.items(), ("index.json", json.dumps(index).encode())]:
            about = tarfile.TarInfo(name)
            about.size = len(blob)
            file.addfile(about, io.BytesIO(blob))
    return path


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with running_registry(small_archive(tmp_path / "base.tar")) as running:
        yield running


@pytest.fixture
def buildah(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """With nothing in its store yet; it speaks plain HTTP to that registry, and to no other one."""
    if shutil.which("buildah") is None:
        pytest.skip("no buildah: apt-get install buildah")
    storage = tmp_path / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n')
    registries = tmp_path / "registries.conf"
    registries.write_text(f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(registries))
    return Engine("buildah", tmp_path / "logs")


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "base.lock"
    monkeypatch.setattr(base, "LOCK", path)
    return path


def test_a_pinned_base_stays_what_it_was_and_the_next_pin_accepts_another(
    buildah: Engine, registry: Registry, lock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tag = f"{registry.host}/served/base:1"
    choice = base.Choice(tag)

    def obtained(*, pin: bool = False) -> str:
        return base.obtain(choice, buildah, tmp_path, pin=pin)

    # The control: without a pin the tag is taken, and it is said that it moves.
    assert obtained() == tag
    assert "is a tag that moves" in capsys.readouterr().out

    pinned = obtained(pin=True)
    assert lock.read_text() == f"{tag} {pinned.partition('@')[2]}\n"
    first = buildah.identity(pinned)
    assert first is not None

    before = registry.move_tags()
    assert pinned == f"{tag}@{before}"
    assert (obtained(), buildah.identity(pinned)) == (pinned, first)

    # The tag did move: whoever accepts it has another one.
    other = obtained(pin=True)
    assert other != pinned
    assert buildah.identity(other) not in {None, first}
    assert lock.read_text() == f"{tag} {other.partition('@')[2]}\n"


@pytest.mark.parametrize("forget", [False, True], ids=["kept by its digest", "gone"])
def test_on_another_machine_only_the_pinned_one_will_do(
    buildah: Engine, registry: Registry, lock: Path, tmp_path: Path, *, forget: bool
):
    """The lock is in the repository; the machine has no image of that name."""
    tag = f"{registry.host}/served/base:1"
    digest = registry.move_tags(forget=forget)
    lock.write_text(f"{tag} {digest}\n")
    choice = base.Choice(tag)
    if forget:
        with pytest.raises(ImagesError, match=f"@{digest} cannot be pulled"):
            base.obtain(choice, buildah, tmp_path, pin=False)
        assert buildah.identity(tag) is None
    else:
        assert base.obtain(choice, buildah, tmp_path, pin=False) == f"{tag}@{digest}"
        assert buildah.digest(f"{tag}@{digest}") == digest


def test_what_came_from_no_registry_cannot_be_pinned(buildah: Engine, registry: Registry, lock: Path, tmp_path: Path):
    with pytest.raises(ImagesError, match="cannot be pulled"):
        base.obtain(base.Choice(f"{registry.host}/missing/base:1"), buildah, tmp_path, pin=True)
    assert not lock.exists()
