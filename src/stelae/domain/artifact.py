"""Artifacts: the forms of an image that a platform boots, besides the image itself."""

from __future__ import annotations

from dataclasses import dataclass

from stelae.domain.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A bootable disk that was made of an image, and nothing else but locked packages.

    ``digest`` is that of its OCI manifest, by which it is signed, verified and started; ``image`` the OCI image whose
    files are its root; ``raw`` the digest of the whole disk and ``size`` its bytes; ``root_hash`` dm-verity's of the
    root (64 hexadecimal digits); ``uki`` the digest of the unified kernel image; ``kernel`` the kernel's release.
    """

    digest: Digest
    image: Digest
    raw: Digest
    size: int
    root_hash: str
    uki: Digest
    kernel: str
