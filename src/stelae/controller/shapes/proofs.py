"""The shapes of answers about what is inside an image, how it was made, who vouches for it, and what differs."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from stelae.controller.shapes.common import Count, Digest, SecretChange, Size, Time


class Shown(TypedDict):
    """What a reference names; its other fields are those of its kind."""

    kind: Literal["image", "release", "deployment", "instance", "commit", "run"]


class Proven(TypedDict):
    """Whether something is proven of an image: by which key, or why not."""

    ok: bool
    key: str
    why: str


class Revocation(TypedDict):
    """Who took something back, when and why."""

    by: str
    at: Time
    reason: str


class BuiltFrom(TypedDict):
    """What the provenance says, in short."""

    source: str
    path: str
    commit: str
    inputs: int
    builder: str
    finished: str


class Package(TypedDict):
    """A package of an image; ``layer`` is the lowest that has it."""

    kind: str
    name: str
    version: str
    purl: str
    licences: list[str]
    layer: str


class Proof(TypedDict):
    """What was verified of an image, just now, and what is inside."""

    image: Digest
    trusted: bool
    signature: Proven
    provenance: Proven
    sbom: Proven
    built: BuiltFrom | None
    revoked: Revocation | None
    problems: list[str]
    counts: dict[str, Count]
    packages: list[Package]


class Document(TypedDict):
    """A document about an image, and the key that signed it."""

    image: Digest
    key: str
    document: dict[str, Any]


class PackageChange(TypedDict):
    """A package that differs; a version is ``""`` where it is not there."""

    kind: str
    name: str
    old: str
    new: str


class FileSaid(TypedDict):
    """A file as it is in an image: its mode in octal digits, its owner as ``uid:gid``, its size in bytes."""

    kind: str
    mode: str
    owner: str
    size: Size


class FileChange(TypedDict):
    """A file that differs, in what it holds (``content``) or in what it is; null where it is not there."""

    path: str
    old: FileSaid | None
    new: FileSaid | None
    content: bool


class LayerOf(TypedDict):
    """A layer, and which of the two images has it."""

    digest: Digest
    size: Size
    old: bool
    new: bool


class NamedChange(TypedDict):
    """Something by name that was added, removed or changed."""

    name: str
    change: Literal["added", "removed", "changed"]


class Diff(TypedDict):
    """What differs between two images."""

    old: Digest
    new: Digest
    packages: list[PackageChange]
    files: list[FileChange]
    layers: list[LayerOf]
    processes: list[NamedChange]
    settings: list[NamedChange]
    secrets: list[SecretChange]


class Key(TypedDict):
    """The id of a key."""

    key: str


class KnownKey(TypedDict):
    """A public key; ``signs`` says that images are signed with its private half here, ``counts`` that its signatures
    of images count, and ``verifies`` of which environments its word on what was verified there does."""

    key: str
    pem: str
    added_by: str
    added_at: Time
    signs: bool
    counts: bool
    verifies: list[str]
    revoked: Revocation | None


class VerifierTrusted(TypedDict):
    """The key whose word on what was verified in the environment ``verifies`` counts from now on."""

    key: str
    verifies: str


class Keys(TypedDict):
    """The keys whose signatures count, or counted."""

    keys: list[KnownKey]


class Revoked(TypedDict):
    """What was revoked, and the environments that run such a thing still."""

    revoked: str
    running: list[str]
