"""Signed notes (C2SP signed-note): a text, and lines by which keys vouch for it.

``text ‖ "\\n" ‖ ("— " name " " base64(key id ‖ signature) "\\n")+``; the text ends with a line's end, and what comes
after the last blank line are signatures. Keys are Ed25519. A key's id is the first 4 bytes of
``SHA-256(name ‖ "\\n" ‖ type ‖ public key)``; a verifier is written ``name+hex(id)+base64(type ‖ public key)``, a
signer ``PRIVATE+KEY+name+hex(id)+base64(type ‖ seed)``, as Go's ``golang.org/x/mod/sumdb/note`` does.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from stelae.domain.errors import Failed, InvalidInput

ED25519 = b"\x01"
"""The type of the keys, the first byte of a written key."""

LONGEST = 1_000_000
"""The longest note that is read, in bytes."""

MOST_SIGNATURES = 100
"""How many signatures a note may have."""

_ID = 4
_KEY = 32
_DASH = "— "
_PRIVATE = "PRIVATE+KEY+"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key under a name."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The 4 bytes by which a signature says which key made it."""
        return key_id(self.name, ED25519 + self.public)

    @property
    def vkey(self) -> str:
        """The key as one line of text."""
        return _written(self.name, self.key_id, self.public)

    def verifies(self, signature: bytes, text: str) -> bool:
        """Say whether *signature* was made of *text* with the private half of this key."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """A private key under a name."""

    name: str
    seed: bytes

    @property
    def verifier(self) -> Verifier:
        """The half that everybody may know."""
        return Verifier(self.name, self._key().public_key().public_bytes_raw())

    @property
    def skey(self) -> str:
        """The private key as one line of text: it goes into its file and nowhere else."""
        return _PRIVATE + _written(self.name, self.verifier.key_id, self.seed)

    def sign(self, text: str) -> bytes:
        """Return *text* as a note that this key has signed; raises ValueError when it cannot be one."""
        if not text.endswith("\n") or _CONTROL.search(text):
            message = "the text of a note ends with a line's end and has no control characters"
            raise ValueError(message)
        signature = self.verifier.key_id + self._key().sign(text.encode())
        return f"{text}\n{_DASH}{self.name} {base64.b64encode(signature).decode()}\n".encode()

    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


@dataclass(frozen=True, slots=True)
class Signature:
    """One line below a note: who says to have signed it, and with what."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A note whose signatures nobody has looked at yet."""

    text: str
    signatures: tuple[Signature, ...]

    def verified(self, known: Sequence[Verifier]) -> tuple[Verifier, ...]:
        """Return those of *known* that signed it, each once; signatures of others are ignored.

        Raises Failed when a signature that says to be of a known key is not, or when no known key signed it.
        """
        found: dict[Verifier, None] = {}
        for item in self.signatures:
            for verifier in known:
                if (verifier.name, verifier.key_id) != (item.name, item.key_id):
                    continue
                if not verifier.verifies(item.signature, self.text):
                    raise Failed(f"the signature of {item.name} is not of this text: it was changed, or is forged")
                found[verifier] = None
        if not found:
            names = ", ".join(verifier.name for verifier in known)
            raise Failed(f"not signed by the key of {names}", hint="is it the right key? see: stelae audit key")
        return tuple(found)


def key_id(name: str, typed: bytes) -> bytes:
    """Return the id of the key *typed* (its type and its public bytes) under *name*."""
    return sha256(name.encode() + b"\n" + typed).digest()[:_ID]


def is_name(name: str) -> bool:
    """Say whether *name* can be that of a key: not empty, no space, no control character, no plus."""
    return bool(name) and "+" not in name and name.isprintable() and not any(char.isspace() for char in name)


def parse_note(data: bytes) -> Note:
    """Return the note in *data*; raises InvalidInput when it is none."""
    if len(data) > LONGEST:
        raise InvalidInput(f"not a signed note: longer than {LONGEST} bytes")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("not a signed note: not UTF-8") from error
    if _CONTROL.search(whole):
        raise InvalidInput("not a signed note: it has control characters")
    split = whole.rfind("\n\n")
    if split < 0 or not whole.endswith("\n"):
        raise InvalidInput("not a signed note: it has no signatures")
    text, lines = whole[: split + 1], whole[split + 2 : -1].split("\n")
    if len(lines) > MOST_SIGNATURES:
        raise InvalidInput(f"not a signed note: more than {MOST_SIGNATURES} signatures")
    return Note(text, tuple(_signature(line) for line in lines))


def parse_vkey(text: str) -> Verifier:
    """Return the public key that is written in *text*; raises InvalidInput."""
    name, public = _parsed(text, "a verifier key", "NAME+ID+KEY")
    verifier = Verifier(name, public)
    if verifier.vkey != text:
        raise InvalidInput("not a verifier key: its id is not that of the key", hint="copy the whole line")
    return verifier


def parse_skey(text: str) -> Signer:
    """Return the private key that is written in *text*; raises InvalidInput."""
    if not text.startswith(_PRIVATE):
        raise InvalidInput("not the private key of a log")
    name, seed = _parsed(text.removeprefix(_PRIVATE), "the private key of a log", f"{_PRIVATE}NAME+ID+KEY")
    signer = Signer(name, seed)
    if signer.skey != text:
        raise InvalidInput("not the private key of a log: its id is not that of the key")
    return signer


def from_base64(text: str) -> bytes | None:
    """Return what *text* says in base64, None unless it is exactly how that is written."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None


def _written(name: str, identity: bytes, key: bytes) -> str:
    return f"{name}+{identity.hex()}+{base64.b64encode(ED25519 + key).decode()}"


def _parsed(text: str, what: str, form: str) -> tuple[str, bytes]:
    name, _, rest = text.partition("+")
    _, _, encoded = rest.partition("+")
    key = from_base64(encoded)
    if not is_name(name) or not key or len(key) != 1 + _KEY:
        raise InvalidInput(f"not {what}", hint=f"it is one line: {form}")
    if not key.startswith(ED25519):
        raise InvalidInput(f"not {what} of Ed25519: its type is {key[0]:#04x}")
    return name, key[1:]


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    data = from_base64(encoded)
    if not line.startswith(_DASH) or not is_name(name) or data is None or len(data) <= _ID:
        raise InvalidInput("not a signed note: a line below the text is not a signature")
    return Signature(name, data[:_ID], data[_ID:])
