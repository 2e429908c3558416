"""The key that secrets are encrypted with: a file that only its owner can read, or a credential of systemd.

The file, ``state/keys/secrets.key``, is made when the first secret is set. A credential called ``stelae-secrets-key``
(systemd.exec(5), "CREDENTIALS") goes before it; what was encrypted with the file before is still read with the file.
Either may hold any bytes, at least 32: the key is made of them by HKDF (RFC 5869).
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stelae.domain.errors import Failed
from stelae.system.files import write_atomic

CREDENTIAL = "stelae-secrets-key"
FILE = "secrets.key"
ID_BYTES = 8
_SHORTEST, _LONGEST = 32, 4096


@dataclass(frozen=True, slots=True, repr=False)
class SecretKey:
    """A key of AES-256, and its name: a few bytes that tell nothing of it."""

    id: bytes
    key: bytes


class SecretKeys:
    """The keys there are: the credential in *environment*'s ``CREDENTIALS_DIRECTORY``, and the file in *folder*."""

    def __init__(self, folder: Path, environment: Mapping[str, str] = os.environ) -> None:
        self._file = folder / FILE
        given = environment.get("CREDENTIALS_DIRECTORY", "")
        self._credential = Path(given) / CREDENTIAL if given else None

    def writing(self) -> SecretKey:
        """Return the key for new secrets, making the file when there is none; raises Failed."""
        found = self._given() or self._kept()
        if found is not None:
            return found
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file.parent.chmod(0o700)
            write_atomic(self._file, secrets.token_hex(32).encode() + b"\n", mode=0o600)
        except OSError as error:
            raise Failed(f"the key of the secrets cannot be kept: {error.strerror}", where=str(self._file)) from error
        made = self._kept()
        assert made is not None
        return made

    def reading(self, name: bytes) -> SecretKey | None:
        """Return the key called *name*, None when it is not here; raises Failed."""
        return next((key for key in (self._given(), self._kept()) if key is not None and key.id == name), None)

    def kept_name(self) -> bytes | None:
        """Return the name of the key in the file, None when there is none; raises Failed."""
        kept = self._kept()
        return kept.id if kept is not None else None

    def _given(self) -> SecretKey | None:
        return _read(self._credential, private=False) if self._credential is not None else None

    def _kept(self) -> SecretKey | None:
        return _read(self._file, private=True)


def _read(path: Path, *, private: bool) -> SecretKey | None:
    """Return the key in the file *path*, None when there is none; with *private* nobody else may read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Failed("the key of the secrets is not a file", where=str(path))
            if private and found.st_mode & 0o077:
                raise Failed("others can read the key of the secrets", where=str(path), hint=f"chmod 600 {path}")
            content = file.read(_LONGEST + 1).strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failed(f"the key of the secrets cannot be read: {error.strerror}", where=str(path)) from error
    if not _SHORTEST <= len(content) <= _LONGEST:
        raise Failed(
            f"the key of the secrets has {len(content)} bytes", where=str(path),
            hint=f"it needs {_SHORTEST} to {_LONGEST}, drawn by lot: openssl rand -hex 32",
        )  # fmt: skip
    return SecretKey(id=_derived(content, b"stelae secrets: name of the key")[:ID_BYTES], key=_derived(content))


def _derived(content: bytes, purpose: bytes = b"stelae secrets: key") -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=purpose).derive(content)
