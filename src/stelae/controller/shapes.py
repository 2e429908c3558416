"""The shapes of what the API answers: the description of the API is made of them, and tests hold the answers to them.

Times are microseconds since 1970 (UTC), sizes bytes, traffic basis points; digests and ids are whole. An answer may
get more fields in a later version: who reads one must ignore what it does not know.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

import msgspec

Time = int
Digest = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]
OptionalDigest = Annotated[str, msgspec.Meta(pattern="^(?:sha256:[0-9a-f]{64})?$")]
Size = Annotated[int, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Problem(TypedDict):
    """What went wrong (``message``, at ``where``), what to do next (``hint``), and the command line's exit code."""

    kind: Literal["invalid", "refused", "conflict", "failed", "unreachable", "error", "internal"]
    message: str
    where: str
    hint: str
    details: list[str]
    exit: int


class Error(TypedDict):
    """The answer of every status but 200, and the last line of a stream that failed."""

    error: Problem


class Empty(TypedDict):
    """An empty object."""


class Text(TypedDict):
    """What is being done, in words."""

    text: str


class Head(TypedDict):
    """The record's head: how many events it has, and the root of their Merkle tree."""

    size: Count
    root: str


class Cleaned(TypedDict):
    """When the disk was cleaned last, how many bytes that freed, and what went wrong, if anything."""

    cleaned_at: Time | None
    bytes: Size
    problem: str


class Ping(Head):
    """Who answers, and the record's head; ``http_port`` is that of the front door."""

    version: str
    pid: int
    http_port: int


class Lacking(TypedDict):
    """The object ids that the controller lacks."""

    missing: list[str]


class Received(TypedDict):
    """How many objects came."""

    objects: Count


class BuiltLayer(TypedDict):
    """One layer of a build, and whether it was there already."""

    digest: Digest
    size: Size
    cached: bool
    name: str


class Built(TypedDict):
    """The image that a commit became; ``created`` is false when there was one of the same content."""

    image: Digest
    app: str
    created: bool
    layers: list[BuiltLayer]
    seconds: float
    locked: bool


class Pushed(TypedDict):
    """What was sent: ``name`` is HOST/PATH@DIGEST, ``referrers`` the number of signatures and attestations,
    ``listed`` whether the registry lists them by itself (else the tag sha256-HEX does)."""

    image: Digest
    name: str
    tag: str
    referrers: Count
    listed: bool


class Pulled(TypedDict):
    """What was taken: ``moved`` is what the tag was when it was taken last, if that was another image; ``keys`` are
    the known keys that signed it, ``strangers`` the number of signatures by others."""

    image: Digest
    app: str
    name: str
    moved: OptionalDigest
    keys: list[str]
    strangers: Count


class InputChange(TypedDict):
    """An input of a stage that is another one; a version is empty where it is not there."""

    stage: str
    kind: str
    name: str
    old: str
    new: str


class ArchiveChange(TypedDict):
    """The dates (ISO 8601) of the Debian archive that a stage was and is resolved from, and the days between."""

    stage: str
    old: str
    new: str
    days: int


class ChangedPath(TypedDict):
    """A path that came out otherwise, and how: a phrase for each property."""

    path: str
    how: list[str]


class ChangedLayer(TypedDict):
    """A layer that came out otherwise, how many paths differ, and the first of them."""

    name: str
    old: OptionalDigest
    new: OptionalDigest
    count: Count
    paths: list[ChangedPath]


class Reproduced(TypedDict):
    """What building again gave: ``equal`` when ``made`` is ``image``. ``known`` is false when there is no image left
    to compare files with; ``config`` are the fields of the image's config that differ."""

    image: Digest
    made: Digest
    equal: bool
    known: bool
    layers: list[ChangedLayer]
    config: list[str]
    seconds: float
    commit: str
    repository: str


class Locked(TypedDict):
    """The text of stelae.lock, and what it changes."""

    lock: str
    changes: list[InputChange]
    archives: list[ArchiveChange]


class Change(TypedDict):
    """A value of an environment that differs, in the spec's words."""

    environment: str
    path: str
    old: Any
    new: Any


class Applied(TypedDict):
    """What differed, and the environments that were changed (none in a dry run)."""

    changes: list[Change]
    applied: list[str]


class Environment(TypedDict):
    """An environment as it was applied, in the words of ``[env.NAME]``."""

    app: str
    name: str
    processes: dict[str, Count]
    settings: dict[str, str]
    hosts: list[str]
    strategy: dict[str, str]
    bake: str
    promote_from: str
    require: list[str]


class Environments(TypedDict):
    """The environments."""

    environments: list[Environment]


class Deployed(TypedDict):
    """A deployment that was accepted: the release it moves to, and the one before (``""`` for none). ``note`` says
    what a rollback passed over, because it was revoked."""

    deployment: str
    release: str
    previous: str
    image: Digest
    note: str


class Aborted(TypedDict):
    """The deployment that is being ended."""

    deployment: str


class Scaled(TypedDict):
    """How many instances of each process are wanted now."""

    environment: str
    processes: dict[str, Count]


class Serving(TypedDict):
    """The release that serves, and its ready instances."""

    release: str
    ready: Count
    wanted: Count


class Deployment(TypedDict):
    """A deployment and how it went; ``outcome`` is ``""`` and ``ended_at`` null while it is under way."""

    deployment: str
    environment: str
    kind: Literal["deploy", "rollback"]
    release: str
    image: Digest
    previous: str
    actor: str
    requested_at: Time
    reason: str
    outcome: Literal["", "succeeded", "reverted", "cancelled", "superseded", "failed"]
    ended_at: Time | None
    why: str
    details: list[str]
    warm_until: Time | None
    serving: Serving
    hosts: list[str]


class Progress(TypedDict):
    """How far a deployment is."""

    text: str
    step: Count
    ready: Count
    wanted: Count


class Ready(TypedDict):
    """Instances that are ready, and that are wanted."""

    ready: Count
    wanted: Count


class Rollout(TypedDict):
    """A deployment that is under way."""

    deployment: str
    kind: Literal["deploy", "rollback"]
    candidate: str
    strategy: str
    phase: Literal["forward", "reverting"]
    step: Count
    steps: Count
    ready: Count
    wanted: Count
    reason: str
    actor: str
    started_at: Time


class Row(TypedDict):
    """Where an environment stands."""

    app: str
    environment: str
    image: OptionalDigest
    release: str
    commit: str
    instances: Ready
    processes: dict[str, Ready]
    traffic: dict[str, Count]
    since: Time | None
    state: Literal["down", "reverting", "deploying", "empty", "steady", "degraded"]
    detail: str
    hosts: list[str]
    warm: dict[str, Time]
    rollout: Rollout | None


class Status(TypedDict):
    """Where all environments stand, the record's head, and how the disk was cleaned last."""

    environments: list[Row]
    record: Head
    storage: Cleaned


class Happened(TypedDict):
    """An event of the record, in words."""

    index: Count
    at: Time
    actor: str
    environment: str
    kind: str
    text: str


class History(TypedDict):
    """Events, oldest first."""

    events: list[Happened]


class Instance(TypedDict):
    """An instance; ``exit`` says how it ended."""

    id: str
    process: str
    release: str
    since: Time
    ready: bool
    exit: str


class RowAt(Row):
    """Where an environment stood at a time."""

    subject: str
    deployed_by: str
    deployed_at: Time | None
    settings: dict[str, str]
    table: dict[str, int]
    instances: list[Instance]  # type: ignore[misc]  # one by one, where a row of now has their counts


class State(TypedDict):
    """What ran at a time; ``index`` is the number of events that were recorded up to then."""

    at: Time
    index: Count
    environments: list[RowAt]


class Shown(TypedDict):
    """What a reference names; its other fields are those of its kind."""

    kind: Literal["image", "release", "deployment", "instance", "commit"]


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


class Key(TypedDict):
    """The id of a key."""

    key: str


class KnownKey(TypedDict):
    """A public key; ``signs`` says that images are signed with its private half here."""

    key: str
    pem: str
    added_by: str
    added_at: Time
    signs: bool
    revoked: Revocation | None


class Keys(TypedDict):
    """The keys whose signatures count, or counted."""

    keys: list[KnownKey]


class Revoked(TypedDict):
    """What was revoked, and the environments that run such a thing still."""

    revoked: str
    running: list[str]


class LogLine(TypedDict):
    """A line of an instance's output."""

    instance: str
    at: Time
    stream: str
    text: str


class Stopped(TypedDict):
    """The environments that were taken down."""

    stopped: list[str]


class Started(TypedDict):
    """The environments that serve again."""

    started: list[str]


class RemovedThing(TypedDict):
    """Something that nothing needed: an image, blob, layer, input, cache entry, or what a crash left; and why."""

    what: str
    name: str
    bytes: Size
    reason: str


class Removed(TypedDict):
    """What was removed (in a dry run: would be), and how large it was; ``left`` are files and folders among it that
    are not Stelae's."""

    removed: list[RemovedThing]
    bytes: Size
    left: list[str]


class End(TypedDict):
    """One end of a plan's way; ``commit`` is ``""`` where it is not known."""

    release: str
    image: Digest
    commit: str
    subject: str


class NowThen(TypedDict):
    """Serving instances that should be there now, and in the end."""

    now: Count
    then: Count


class Setting(TypedDict):
    """A setting that differs, by name."""

    name: str
    change: Literal["added", "changed", "removed"]


class Held(TypedDict):
    """Instances of one process of one release."""

    release: str
    process: str
    serving: Count
    warm: Count


class Step(TypedDict):
    """What an environment holds at one step; no ``traffic`` means equal shares for what serves."""

    holds: list[Held]
    traffic: dict[str, Count]


class Needed(TypedDict):
    """What the environment requires to be proven of the image; ``why`` it is not, ``""`` when it is."""

    requirement: Literal["signature", "provenance", "sbom"]
    ok: bool
    why: str


class Refusal(TypedDict):
    """What the deployment would be refused with now."""

    kind: str
    message: str
    hint: str
    exit: int


class Difference(TypedDict):
    """A value that applying the spec would change."""

    path: str
    old: str
    new: str


Planned = TypedDict(
    "Planned",
    {
        "environment": str,
        "index": Count,
        "kind": Literal["deploy", "rollback"],
        "from": End | None,
        "to": End,
        "processes": dict[str, NowThen],
        "settings": list[Setting],
        "strategy": str,
        "steps": list[Step],
        "after": Step,
        "warm": dict[str, Time],
        "nothing": bool,
        "promote_from": str,
        "hosts": list[str],
        "rollout": Rollout | None,
        "proofs": list[Needed],
        "refusal": Refusal | None,
        "spec": list[Difference],
    },
)
"""What would change. ``index`` is what a deployment or a rollback can be bound to."""


class Description(TypedDict):
    """A description of this API (OpenAPI)."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]
