"""Seals small secrets under a key kept in a file: the implementation of ``ports.SecretBox`` without a KMS.

The file holds one key a line, ``<id> <base64>``: the first one seals, all of them open, so keys can be changed while
what was sealed under an older one is sealed again. A sealed secret begins with the id of its key.

The file is read again whenever it has changed, so a key that is added or taken away needs no restart. One that cannot
be read any more leaves the keys that were read before in use; ``keys`` says what is wrong with it.
"""

import base64
import binascii
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from innkeeper.model import disk
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.ports import Keys

_FORMAT = b"\x01"
_ID_BYTES, _NONCE_BYTES, _KEY_BYTES = 8, 12, 32
_HEADER_BYTES = len(_FORMAT) + _ID_BYTES
_ROOT = 0


@dataclass(frozen=True, slots=True)
class _Ring:
    """What one version of the file held; ``version`` tells it from the next."""

    keys: dict[bytes, AESGCM] = field(repr=False)
    version: tuple[int, ...]

    @property
    def current(self) -> bytes:
        return next(iter(self.keys))


class KeyFile:
    """AES-256-GCM with random nonces. ``KeyFile.create`` for a new installation, ``KeyFile`` for one that has keys."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ring = _load(path)

    @classmethod
    def create(cls, path: Path) -> "KeyFile":
        """Make the file unless it is there; it is on disk when this returns, and nobody else can read it."""
        if not path.exists():
            draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
            try:
                _write(draft, new_line().encode())
                # Unlike a rename, this never replaces the key of somebody who was faster.
                os.link(draft, path)
            except FileExistsError:
                pass
            except OSError as error:
                raise TemporaryError(f"no key was made: {disk.refusal(error, path.parent)}") from error
            finally:
                draft.unlink(missing_ok=True)
            _flush(path.parent)
        return cls(path)

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        ring = self._latest()
        header = _FORMAT + ring.current
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return header + nonce + ring.keys[ring.current].encrypt(nonce, plaintext, _bound(header, context))

    def open(self, sealed: bytes, *, context: str) -> bytes:
        header, rest = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        if not header.startswith(_FORMAT) or len(header) < _HEADER_BYTES:
            raise PermanentError("a sealed secret has an unknown format", reason="secret-unreadable")
        key = self._latest().keys.get(header[len(_FORMAT) :])
        if key is None:
            raise PermanentError(
                f"a secret was sealed under key {self.key_of(sealed)}, which is not in {self._path}; put that key's"
                " line back",
                reason="secret-key-missing",
            )
        try:
            return key.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _bound(header, context))
        except (InvalidTag, ValueError):
            raise PermanentError(
                "a sealed secret was altered, or belongs to another row", reason="secret-unreadable"
            ) from None

    def keys(self) -> Keys:
        self._ring = ring = _load(self._path)
        return Keys(tuple(name.decode() for name in ring.keys), _FORMAT + ring.current)

    def key_of(self, sealed: bytes) -> str:
        return sealed[len(_FORMAT) : _HEADER_BYTES].decode("ascii", "replace")

    def _latest(self) -> _Ring:
        """The file as it is now; as it was while it cannot be read, since what runs needs its keys."""
        try:
            if _version(self._path.stat()) != self._ring.version:
                self._ring = _load(self._path)
        except (OSError, PermanentError):
            pass
        return self._ring


def new_line() -> str:
    """A fresh key as a line of the file."""
    return f"{secrets.token_hex(_ID_BYTES // 2)} {base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()}\n"


def _bound(header: bytes, context: str) -> bytes:
    return header + context.encode()


def _load(path: Path) -> _Ring:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            lines = file.read().splitlines()
    except OSError as error:
        raise PermanentError(f"key file {path}: {error.strerror}", reason="key-file") from None
    if exposed(stat.S_IMODE(found.st_mode), owner=found.st_uid, reader=os.geteuid()):
        mode = stat.S_IMODE(found.st_mode)
        message = f"key file {path} may be read by others (mode {mode:04o}); run chmod 600 on it"
        raise PermanentError(message, reason="key-file")
    pairs = [_key(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not pairs:
        raise PermanentError(f"key file {path} holds no key; restore it from its backup", reason="key-file")
    keys: dict[bytes, AESGCM] = {}
    for name, key in pairs:
        if name in keys:
            message = f"key file {path} holds two keys with the id {name.decode()}; leave one of the lines out"
            raise PermanentError(message, reason="key-file")
        keys[name] = key
    return _Ring(keys, _version(found))


def exposed(mode: int, *, owner: int, reader: int) -> bool:
    """Whether somebody else may read a file of this mode, or the group may write it.

    A Secret that Kubernetes mounts for a user that is not root belongs to root and is readable by the pod's own group.
    """
    if mode & stat.S_IRWXO or mode & (stat.S_IWGRP | stat.S_IXGRP):
        return True
    mounted = owner == _ROOT and reader != _ROOT
    return bool(mode & stat.S_IRGRP) and not mounted


def _version(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _key(path: Path, number: int, line: bytes) -> tuple[bytes, AESGCM]:
    try:
        name, encoded = line.split()
        key = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        name, key = b"", b""
    if len(name) != _ID_BYTES or not name.isalnum() or len(key) != _KEY_BYTES:
        # The line itself is not shown: it may be most of a key.
        raise PermanentError(
            f"key file {path}, line {number} is not a key; restore it from its backup", reason="key-file"
        )
    return name, AESGCM(key)


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
