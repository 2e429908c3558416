"""The private keys of an installation in a backup, sealed to a recovery key that is kept elsewhere.

The recovery key is a key of X25519. Its public half stays on the machine, so that a backup every night needs nobody;
its private half is made once, given to a person, and kept nowhere here. So whoever steals a backup has encrypted
secrets and no key, neither theirs nor the log's.

Sealed: ``stelae-sealed-1``, a line break, 32 bytes of a public key made for this one time, and what is sealed in
ChaCha20-Poly1305. Its key is HKDF-SHA256 (RFC 5869) of the shared secret of X25519 (RFC 7748), salted with both
public keys; it is used once, so the nonce is zero. So do age's X25519 recipients (https://age-encryption.org/v1).
"""

from __future__ import annotations

import base64
import json
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stelae.domain.canonical import canonical
from stelae.domain.errors import Failed, InvalidInput
from stelae.ledger.note import from_base64
from stelae.system.files import write_atomic

RECIPIENT = "recovery.pub"
"""The file of the public half, beside the private keys."""

LARGEST = 1 << 20
"""The most bytes that all private keys have together."""

_MAGIC = b"stelae-sealed-1\n"
_PUBLIC, _PRIVATE = "stelae-recovery-1:", "stelae-recovery-secret-1:"
_KEY = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NONCE = bytes(12)


def make_recovery_key(folder: Path, give: Callable[[str], None] = lambda _: None) -> str:
    """Make a recovery key and return its private half as one line. That is handed to *give* first: only when it has
    been put away is the public half kept in *folder*, in place of another one that is there. Raises Failed."""
    key = X25519PrivateKey.generate()
    private = _PRIVATE + base64.b64encode(key.private_bytes_raw()).decode()
    give(private)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        write_atomic(folder / RECIPIENT, f"{_public(key)}\n".encode(), mode=0o600)
    except OSError as error:
        raise Failed(f"the recovery key cannot be kept: {error.strerror}", where=str(folder)) from error
    return private


def recipient(folder: Path) -> str:
    """Return the public half of the recovery key in *folder*, "" when none was made; raises Failed."""
    path = folder / RECIPIENT
    try:
        text = path.read_text("ascii").strip()
        _parsed(text, _PUBLIC)
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError, InvalidInput) as error:
        raise Failed(
            "the public half of the recovery key cannot be read", where=str(path),
            hint="make another: stelae key recovery FILE",
        ) from error  # fmt: skip
    return text


def keys_in(folder: Path) -> dict[str, bytes]:
    """Return the files in the folder of private keys by name; raises Failed."""
    found: dict[str, bytes] = {}
    try:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if _NAME.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode):
                found[path.name] = path.read_bytes()
    except OSError as error:
        raise Failed(f"a private key cannot be read: {error.strerror}", where=str(error.filename)) from error
    if sum(map(len, found.values())) > LARGEST:
        raise Failed("the folder of private keys has something else in it", where=str(folder))
    return found


def encode_keys(keys: Mapping[str, bytes]) -> bytes:
    """Return *keys* as one document."""
    return canonical({name: base64.b64encode(data).decode() for name, data in keys.items()})


def decode_keys(data: bytes) -> dict[str, bytes]:
    """Return the keys in a document of ``encode_keys``; raises InvalidInput."""
    try:
        document = json.loads(data)
        found = {name: from_base64(text) for name, text in document.items()}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InvalidInput("the keys in the backup are damaged") from error
    keys = {name: key for name, key in found.items() if key is not None and _NAME.fullmatch(name)}
    if len(keys) != len(found):
        raise InvalidInput("the keys in the backup are damaged")
    return keys


def seal(data: bytes, public: str) -> bytes:
    """Return *data* so that only the private half of the recovery key *public* opens it."""
    other, own = X25519PublicKey.from_public_bytes(_parsed(public, _PUBLIC)), X25519PrivateKey.generate()
    key = _key(own.exchange(other), own.public_key(), other)
    return _MAGIC + own.public_key().public_bytes_raw() + ChaCha20Poly1305(key).encrypt(_NONCE, data, _MAGIC)


def unseal(sealed: bytes, private: str) -> bytes:
    """Return what was sealed to the recovery key whose private half is the line *private*.

    Raises InvalidInput when that line is no such key, Failed when it is another one's, or what is sealed was changed.
    """
    own = X25519PrivateKey.from_private_bytes(_parsed(private.strip(), _PRIVATE))
    head = len(_MAGIC) + _KEY
    if not sealed.startswith(_MAGIC) or len(sealed) < head:
        raise Failed("the sealed keys of the backup are damaged")
    other = X25519PublicKey.from_public_bytes(sealed[len(_MAGIC) : head])
    try:
        key = _key(own.exchange(other), other, own.public_key())
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed[head:], _MAGIC)
    except (InvalidTag, ValueError):
        raise Failed(
            "the recovery key does not open the keys of the backup: it is another one, or they were changed"
        ) from None


def public_of(private: str) -> str:
    """Return the public half of the recovery key whose private half is the line *private*; raises InvalidInput."""
    return _public(X25519PrivateKey.from_private_bytes(_parsed(private.strip(), _PRIVATE)))


def _public(key: X25519PrivateKey) -> str:
    return _PUBLIC + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _parsed(text: str, form: str) -> bytes:
    key = from_base64(text.removeprefix(form)) if text.startswith(form) else None
    if key is None or len(key) != _KEY:
        what = "the private half of a recovery key" if form is _PRIVATE else "the public half of a recovery key"
        raise InvalidInput(f"not {what}", hint=f"it is one line that begins with {form}")
    return key


def _key(shared: bytes, once: X25519PublicKey, other: X25519PublicKey) -> bytes:
    salt = once.public_bytes_raw() + other.public_bytes_raw()
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=b"stelae sealed keys").derive(shared)
