"""Signed notes (C2SP signed-note): a text, and lines by which keys vouch for it.

``text ‖ "\\n" ‖ ("— " name " " base64(key id ‖ signature) "\\n")+``; the text ends with a line's end, and what comes
after the last blank line are signatures. Keys are Ed25519, of one of two types: a log's signs the text, a witness's
(C2SP tlog-cosignature) signs ``"cosignature/v1\\ntime " seconds "\\n" text``, and its signature is the seconds since
1970, 64 bits, high byte first, and then the 64 bytes of Ed25519. A key's id is the first 4 bytes of
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
"""The type of a log's key, the first byte of a written key."""

COSIGNATURE = b"\x04"
"""The type of a witness's key."""

LONGEST = 1_000_000
"""The longest note that is read, in bytes."""

MOST_SIGNATURES = 100
"""How many signatures a note may have."""

_ID = 4
_KEY = 32
_TIME = 8
_LATEST = (1 << 63) - 1
_DASH = "— "
_PRIVATE = "PRIVATE+KEY+"
_OWNERS = {ED25519: "a log", COSIGNATURE: "a witness"}
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key under a name, of the type *kind*."""

    name: str
    public: bytes
    kind: bytes = ED25519

    @property
    def key_id(self) -> bytes:
        """The 4 bytes by which a signature says which key made it."""
        return key_id(self.name, self.kind + self.public)

    @property
    def vkey(self) -> str:
        """The key as one line of text."""
        return _written(self.name, self.key_id, self.kind + self.public)

    def verifies(self, signature: bytes, text: str) -> bool:
        """Say whether *signature* was made of *text* with the private half of this key."""
        message = text.encode()
        if self.kind == COSIGNATURE:
            at, signature = cosigned_at(signature), signature[_TIME:]
            if not 0 < at <= _LATEST:
                return False
            message = _cosigned(at, text)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """A private key under a name, of the type *kind*."""

    name: str
    seed: bytes
    kind: bytes = ED25519

    @property
    def verifier(self) -> Verifier:
        """The half that everybody may know."""
        return Verifier(self.name, self._key().public_key().public_bytes_raw(), self.kind)

    @property
    def skey(self) -> str:
        """The private key as one line of text: it goes into its file and nowhere else."""
        return _PRIVATE + _written(self.name, self.verifier.key_id, self.kind + self.seed)

    def sign(self, text: str) -> bytes:
        """Return *text* as a note that this key has signed; raises ValueError when it cannot be one."""
        if not text.endswith("\n") or _CONTROL.search(text):
            message = "the text of a note ends with a line's end and has no control characters"
            raise ValueError(message)
        return f"{text}\n".encode() + self._line(self._key().sign(text.encode()))

    def cosign(self, text: str, at: int) -> bytes:
        """Return the line below the note *text* by which this key says that it has seen it, and nothing that
        contradicts it, *at* so many seconds after 1970."""
        return self._line(at.to_bytes(_TIME, "big") + self._key().sign(_cosigned(at, text)))

    def _line(self, signature: bytes) -> bytes:
        return Signature(self.name, self.verifier.key_id, signature).line

    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


@dataclass(frozen=True, slots=True)
class Signature:
    """One line below a note: who says to have signed it, and with what."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> bytes:
        """The line, with its end."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n".encode()

    def is_of(self, verifier: Verifier) -> bool:
        """Say whether it says to be of this key."""
        return (verifier.name, verifier.key_id) == (self.name, self.key_id)


@dataclass(frozen=True, slots=True)
class Note:
    """A note whose signatures nobody has looked at yet."""

    text: str
    signatures: tuple[Signature, ...]

    def verified(self, known: Sequence[Verifier]) -> tuple[Verifier, ...]:
        """Return those of *known* that signed it, each once; signatures of others are ignored.

        Raises Failed when a signature that says to be of a known key is not, or when no known key signed it.
        """
        found = tuple(dict.fromkeys(verifier for verifier, _ in self.signed_by(known)))
        if not found:
            names = ", ".join(verifier.name for verifier in known)
            raise Failed(f"not signed by the key of {names}", hint="is it the right key? see: stelae audit key")
        return found

    def signed_by(self, known: Sequence[Verifier]) -> list[tuple[Verifier, Signature]]:
        """Return the signatures of those of *known* that signed it, who may be none; those of others are ignored.

        Raises Failed when a signature that says to be of a known key is not.
        """
        found = []
        for item in self.signatures:
            for verifier in known:
                if not item.is_of(verifier):
                    continue
                if not verifier.verifies(item.signature, self.text):
                    raise Failed(f"the signature of {item.name} is not of this text: it was changed, or is forged")
                found.append((verifier, item))
        return found


def cosigned_at(signature: bytes) -> int:
    """Return when a cosignature says that it was made, in seconds since 1970; that verifies nothing."""
    return int.from_bytes(signature[:_TIME], "big")


def key_id(name: str, typed: bytes) -> bytes:
    """Return the id of the key *typed* (its type and its public bytes) under *name*."""
    return sha256(name.encode() + b"\n" + typed).digest()[:_ID]


def is_name(name: str) -> bool:
    """Say whether *name* can be that of a key: not empty, no space, no control character, no plus."""
    return bool(name) and "+" not in name and name.isprintable() and not any(char.isspace() for char in name)


def plain_text(data: bytes, kind: str, longest: int, control: re.Pattern[str]) -> str:
    """Return the text in *data*; raises InvalidInput, saying that it is not *kind*, when it is longer than *longest*
    bytes, is not UTF-8, or has one of the characters *control*."""
    if len(data) > longest:
        raise InvalidInput(f"not {kind}: longer than {longest} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"not {kind}: not UTF-8") from error
    if control.search(text):
        raise InvalidInput(f"not {kind}: it has control characters")
    return text


def parse_note(data: bytes) -> Note:
    """Return the note in *data*; raises InvalidInput when it is none."""
    whole = plain_text(data, "a signed note", LONGEST, _CONTROL)
    split = whole.rfind("\n\n")
    if split < 0 or not whole.endswith("\n"):
        raise InvalidInput("not a signed note: it has no signatures")
    text, lines = whole[: split + 1], whole[split + 2 : -1].split("\n")
    if len(lines) > MOST_SIGNATURES:
        raise InvalidInput(f"not a signed note: more than {MOST_SIGNATURES} signatures")
    return Note(text, tuple(_signature(line) for line in lines))


def parse_vkey(text: str, kind: bytes = ED25519) -> Verifier:
    """Return the public key of type *kind* that is written in *text*; raises InvalidInput."""
    name, public = _parsed(text, f"a verifier key of {_OWNERS[kind]}", "NAME+ID+KEY", kind)
    verifier = Verifier(name, public, kind)
    if verifier.vkey != text:
        raise InvalidInput("not a verifier key: its id is not that of the key", hint="copy the whole line")
    return verifier


def parse_skey(text: str, kind: bytes = ED25519) -> Signer:
    """Return the private key of type *kind* that is written in *text*; raises InvalidInput."""
    what = f"the private key of {_OWNERS[kind]}"
    if not text.startswith(_PRIVATE):
        raise InvalidInput(f"not {what}")
    name, seed = _parsed(text.removeprefix(_PRIVATE), what, f"{_PRIVATE}NAME+ID+KEY", kind)
    signer = Signer(name, seed, kind)
    if signer.skey != text:
        raise InvalidInput(f"not {what}: its id is not that of the key")
    return signer


def from_base64(text: str) -> bytes | None:
    """Return what *text* says in base64, None unless it is exactly how that is written."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None


def _written(name: str, identity: bytes, typed: bytes) -> str:
    return f"{name}+{identity.hex()}+{base64.b64encode(typed).decode()}"


def _cosigned(at: int, text: str) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()


def _parsed(text: str, what: str, form: str, kind: bytes) -> tuple[str, bytes]:
    name, _, rest = text.partition("+")
    _, _, encoded = rest.partition("+")
    key = from_base64(encoded)
    if not is_name(name) or not key:
        raise InvalidInput(f"not {what}", hint=f"it is one line: {form}")
    if not key.startswith(kind):
        raise InvalidInput(f"not {what}: its type is {key[0]:#04x}, not {kind[0]:#04x}")
    if len(key) != 1 + _KEY:
        raise InvalidInput(f"not {what}", hint=f"it is one line: {form}")
    return name, key[1:]


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    data = from_base64(encoded)
    if not line.startswith(_DASH) or not is_name(name) or data is None or len(data) <= _ID:
        raise InvalidInput("not a signed note: a line below the text is not a signature")
    return Signature(name, data[:_ID], data[_ID:])
