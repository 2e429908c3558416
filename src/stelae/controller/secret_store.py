"""The values of secrets on the disk: one file a version, encrypted, in ``state/secrets``.

A file is ``stelae-secret-1``, a line break, 8 bytes that name the key, a nonce of 12 bytes drawn by lot, and the
value in AES-256-GCM. What it is the value of (installation, environment, name, version, and the file's own name) is
authenticated with it, so a file that was put in another's place is refused. Files are named by lot: a controller
that was replaced can overwrite nothing, and a name tells nothing.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stelae.controller.secret_keys import ID_BYTES, SecretKeys
from stelae.domain.canonical import canonical
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.domain.units import KIB
from stelae.system.files import sync_folder, write_atomic

LARGEST = 64 * KIB
"""The most bytes that a value has."""

GRACE = 3600.0
"""Seconds for which a file that nothing names is kept: it may be being recorded."""

_MAGIC = b"stelae-secret-1\n"
KEY_AT = len(_MAGIC)
"""Where in a file the name of its key is."""

_NONCE = 12
_TAG = 16
_HEAD = len(_MAGIC) + ID_BYTES + _NONCE
_NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a value is the value of."""

    environment: EnvironmentId
    name: str
    version: int


class SecretStore:
    """Keeps values in *folder* for the installation called *installation*, and reads those that it kept when it had
    another of the names that *formerly* gives. Blocking; used by one thread at a time."""

    def __init__(
        self, folder: Path, installation: str, keys: SecretKeys, formerly: Callable[[], Sequence[str]] = tuple
    ) -> None:
        self._folder = folder
        self._installation = installation
        self._keys = keys
        self._formerly = formerly

    def put(self, label: Label, value: bytes) -> str:
        """Keep *value* and return the name of its new file, once it is on the disk; raises Failed."""
        name = secrets.token_hex(16)
        key = self._keys.writing()
        nonce = secrets.token_bytes(_NONCE)
        sealed = AESGCM(key.key).encrypt(nonce, value, _authenticated(self._installation, label, name))
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._check_folder()
            self._folder.chmod(0o700)
            write_atomic(self._folder / name, _MAGIC + key.id + nonce + sealed, mode=0o600)
            sync_folder(self._folder.parent)
        except OSError as error:
            raise Failed(f"the secret cannot be kept: {error.strerror}", hint="nothing was changed") from error
        return name

    def get(self, label: Label, name: str) -> bytes:
        """Return the value in the file *name*; raises Failed, which says why it cannot be read and nothing of it."""
        try:
            return self._open(label, name)
        except OSError as error:
            why = "its file is gone" if isinstance(error, FileNotFoundError) else str(error.strerror)
            raise _unreadable(label, why) from error

    def _open(self, label: Label, name: str) -> bytes:
        data = _content(self._path(name))
        if len(data) < _HEAD + _TAG or not data.startswith(_MAGIC):
            raise _unreadable(label, "its file is damaged")
        key_id, nonce = data[len(_MAGIC) : len(_MAGIC) + ID_BYTES], data[_HEAD - _NONCE : _HEAD]
        try:
            key = self._keys.reading(key_id)
        except Failed as error:
            raise _unreadable(label, str(error)) from error
        if key is None:
            raise _unreadable(label, "it was encrypted with a key that is not here")
        for installation in (self._installation, *self._formerly()):
            with suppress(InvalidTag):
                return AESGCM(key.key).decrypt(nonce, data[_HEAD:], _authenticated(installation, label, name))
        raise _unreadable(label, "its file is damaged, or is that of another secret")

    def wipe(self, name: str) -> None:
        """Overwrite the file *name* and remove it; does nothing when there is none. Raises Failed."""
        try:
            _wipe(self._path(name))
            if self._folder.is_dir():
                sync_folder(self._folder)
        except OSError as error:
            raise Failed(f"a revoked secret cannot be removed: {error.strerror}") from error

    def clean(self, known: Collection[str], grace: float = GRACE) -> int:
        """Remove the files that are none of *known* and older than *grace* seconds: what a crash left between
        keeping a value and recording it. Return how many. Raises Failed."""
        if not self._folder.exists():
            return 0
        count, young = 0, time.time() - grace
        try:
            self._check_folder()
            for path in sorted(self._folder.iterdir()):
                if path.name not in known and path.lstat().st_mtime <= young:
                    _wipe(path)
                    count += 1
        except OSError as error:
            raise Failed(f"the store of secrets cannot be cleaned: {error.strerror}") from error
        return count

    def _path(self, name: str) -> Path:
        self._check_folder()
        if not _NAME.fullmatch(name):
            raise Failed(f"not the name of a file of the store of secrets: {name[:100]!r}")
        return self._folder / name

    def _check_folder(self) -> None:
        """Raise Failed when somebody put something else in the folder's place."""
        try:
            found = self._folder.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise Failed("the store of secrets is not a folder of its own", where=str(self._folder))


def _authenticated(installation: str, label: Label, name: str) -> bytes:
    return canonical({
        "installation": installation, "environment": label.environment, "name": label.name,
        "version": label.version, "file": name,
    })  # fmt: skip


def _content(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_HEAD + LARGEST + _TAG + 1)


def _wipe(path: Path) -> None:
    try:
        if path.is_file() and not path.is_symlink():
            with path.open("r+b") as file:
                file.write(secrets.token_bytes(path.stat().st_size))
                file.flush()
                os.fsync(file.fileno())
        path.unlink()
    except FileNotFoundError:
        pass


def _unreadable(label: Label, why: str) -> Failed:
    return Failed(f"secret {label.name} version {label.version} cannot be read: {why}")
