"""Keys: ECDSA on the curve P-256 with SHA-256, the kind that cosign makes.

A private key is a file that only its owner can read, PEM of PKCS#8 without a password; the folder is its protection.
Public keys are part of the record. An id is ``k-`` and 52 characters of the SHA-256 of the public key (DER of its
SubjectPublicKeyInfo); people use any unique prefix.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stelae.domain.digest import digest_of, hex_of, spoken
from stelae.domain.errors import Failed, InvalidInput
from stelae.system.files import write_atomic

_CURVE = ec.SECP256R1
_ALGORITHM = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are checked with, as the text of a PEM file."""

    pem: str

    @property
    def id(self) -> str:
        """The key's name: the same key, the same name, on any machine."""
        return "k-" + spoken(digest_of(self._der()))

    @property
    def hint(self) -> str:
        """The key's name in a sigstore bundle: the SHA-256 of its DER, in base64."""
        return base64.b64encode(bytes.fromhex(hex_of(digest_of(self._der())))).decode()

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Say whether *signature* was made of *data* with the private half of this key."""
        try:
            self._key().verify(signature, data, _ALGORITHM)
        except InvalidSignature:
            return False
        return True

    def _der(self) -> bytes:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key().public_bytes(serialization.Encoding.DER, form)

    def _key(self) -> ec.EllipticCurvePublicKey:
        try:
            key = serialization.load_pem_public_key(self.pem.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidInput("not a public key in PEM") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVE):
            raise InvalidInput("not an ECDSA key on the curve P-256", hint="make one: cosign generate-key-pair")
        return key


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKey:
    """A key that signs. Its text never leaves the folder of keys."""

    key: ec.EllipticCurvePrivateKey

    @property
    def public(self) -> PublicKey:
        """The half that everybody may know."""
        return _public(self.key.public_key())

    def sign(self, data: bytes) -> bytes:
        """Return a signature of *data* (DER, as ECDSA's are)."""
        return self.key.sign(data, _ALGORITHM)


def parse_private(text: bytes) -> PrivateKey:
    """Return the private key in a PEM; raises InvalidInput for another kind, or one with a password."""
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(
            "not a private key in PEM without a password",
            hint="openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, _CURVE):
        raise InvalidInput("not an ECDSA key on the curve P-256")
    return PrivateKey(key)


def parse_public(text: str) -> PublicKey:
    """Return the public key in a PEM, without what else is in the text; raises InvalidInput for another kind."""
    return _public(PublicKey(text)._key())


def _public(key: ec.EllipticCurvePublicKey) -> PublicKey:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return PublicKey(key.public_bytes(serialization.Encoding.PEM, form).decode())


class Keys:
    """The private keys in *folder*: ``KEYID.pem``, of which the one that is named in ``signing`` signs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def signing(self) -> PrivateKey | None:
        """Return the key that signs, None when there is none yet; raises Failed when its file is not what it was."""
        try:
            name = (self._folder / "signing").read_text("ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise Failed("the signing key cannot be read", where=str(self._folder)) from error
        path = self._folder / f"{name}.pem"
        try:
            key = parse_private(path.read_bytes())
        except (OSError, InvalidInput) as error:
            raise Failed(
                f"the signing key cannot be read: {error}", where=str(path),
                hint="restore it from a backup, or give another: stelae key import FILE",
            ) from error  # fmt: skip
        if key.public.id != name:
            raise Failed("the signing key is another one than its name says", where=str(path))
        return key

    def make(self) -> PrivateKey:
        """Return a new key; it is kept nowhere yet."""
        return PrivateKey(ec.generate_private_key(_CURVE()))

    def keep(self, key: PrivateKey) -> None:
        """Keep *key* and sign with it from now on."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)
        text = key.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_atomic(self._folder / f"{key.public.id}.pem", text, mode=0o600)
        write_atomic(self._folder / "signing", key.public.id.encode() + b"\n", mode=0o600)
