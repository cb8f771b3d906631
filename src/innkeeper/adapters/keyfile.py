"""Seals small secrets under a key kept in a file: the implementation of ``ports.SecretBox`` without a KMS.

The file holds one key a line, ``<id> <base64>``: the first one seals, all of them open, so keys can be changed while
what was sealed under an older one is sealed again. A sealed secret begins with the id of its key.
"""

import base64
import binascii
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from innkeeper.model.errors import PermanentError

_FORMAT = b"\x01"
_ID_BYTES, _NONCE_BYTES, _KEY_BYTES = 8, 12, 32
_HEADER_BYTES = len(_FORMAT) + _ID_BYTES
_NOT_OWNER = stat.S_IRWXG | stat.S_IRWXO


class KeyFile:
    """AES-256-GCM with random nonces. ``KeyFile.create`` for a new installation, ``KeyFile`` for one that has keys."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = _load(path)
        self._current = next(iter(self._keys))

    @classmethod
    def create(cls, path: Path) -> "KeyFile":
        """Make the file unless it is there; it is on disk when this returns, and nobody else can read it."""
        if not path.exists():
            line = f"{secrets.token_hex(_ID_BYTES // 2)} {base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()}\n"
            draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
            _write(draft, line.encode())
            try:
                # Unlike a rename, this never replaces the key of somebody who was faster.
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
            _flush(path.parent)
        return cls(path)

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        header = _FORMAT + self._current
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return header + nonce + self._keys[self._current].encrypt(nonce, plaintext, _bound(header, context))

    def open(self, sealed: bytes, *, context: str) -> bytes:
        header, rest = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        key = self._keys.get(header[len(_FORMAT) :])
        if not header.startswith(_FORMAT) or len(header) < _HEADER_BYTES:
            raise PermanentError("a sealed secret has an unknown format", reason="secret-unreadable")
        if key is None:
            raise PermanentError(
                f"a secret was sealed under key {header[len(_FORMAT) :].decode('ascii', 'replace')}, which is not in "
                f"{self._path}; put that key's line back",
                reason="secret-key-missing",
            )
        try:
            return key.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _bound(header, context))
        except (InvalidTag, ValueError):
            raise PermanentError(
                "a sealed secret was altered, or belongs to another row", reason="secret-unreadable"
            ) from None


def _bound(header: bytes, context: str) -> bytes:
    return header + context.encode()


def _load(path: Path) -> dict[bytes, AESGCM]:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            lines = file.read().splitlines()
    except OSError as error:
        raise PermanentError(f"key file {path}: {error.strerror}", reason="key-file") from None
    if mode & _NOT_OWNER:
        raise PermanentError(
            f"key file {path} may be read by others (mode {mode:04o}); run chmod 600 on it", reason="key-file"
        )
    keys = dict(_key(path, number, line) for number, line in enumerate(lines, 1) if line.strip())
    if not keys:
        raise PermanentError(f"key file {path} holds no key; restore it from its backup", reason="key-file")
    return keys


def _key(path: Path, number: int, line: bytes) -> tuple[bytes, AESGCM]:
    try:
        name, encoded = line.split()
        key = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        name, key = b"", b""
    if len(name) != _ID_BYTES or len(key) != _KEY_BYTES:
        # The line itself is not shown: it may be most of a key.
        raise PermanentError(
            f"key file {path}, line {number} is not a key; restore it from its backup", reason="key-file"
        )
    return name, AESGCM(key)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
