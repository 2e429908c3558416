"""What the API needs from the controller: the use cases, as a Protocol.

Arguments and answers are plain JSON values, so that the API only checks and carries. Times are microseconds
since 1970 (UTC), sizes are bytes, traffic is in basis points, digests and ids are whole. Every method may
raise a StelaeError; its ``message`` is the whole first line that a person reads, its ``hint`` says what to do.

A stream yields ``{"progress": {...}}`` any number of times and then ``{"result": {...}}`` once (not
``logs``; the API adds an empty one). A stream is closed early when the client goes away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from stelae.controller.talk import Typed

Json = dict[str, Any]
"""A JSON object."""


class Service(Protocol):
    """The controller's use cases. ``actor`` is the Unix user behind the socket."""

    async def ping(self) -> Json:
        """``{"version", "pid", "size", "root", "http_port"}``: who answers, the record's head, the front door."""

    async def missing(self, repository: str, objects: Sequence[str]) -> Json:
        """``{"missing": [...]}``: those object ids that the controller's mirror of *repository* lacks."""

    async def receive(self, actor: str, repository: str, pack_path: Path) -> Json:
        """Take a git pack into the mirror: ``{"objects": n}``. The file is deleted by the caller."""

    def build(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """Build ``{"repository", "commit", "path", "subject", "versioned", "offline",
        "artifact": "image" | "disk", "secrets": {name: content in base64}}``; the secrets are kept nowhere.
        ``offline``: nothing is fetched. With "disk" the image is made into a disk too.

        Progress ``{"text"}``; result ``{"image", "app", "created", "locked": false when nothing pins what it took,
        "layers": [{"digest", "size", "cached", "name"}], "seconds", "disk": null or {"disk": digest, "created",
        "raw": digest, "size", "root_hash", "kernel", "locked", "seconds"}}``.
        """

    def lock(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """Pin what ``{"repository", "commit", "path", "upgrade", "secrets"}`` needs: what the commit's lock has
        stays, unless ``upgrade``. Progress ``{"text"}``; result ``{"lock": text, "changes": [{"stage", "kind",
        "name", "old", "new"}], "archives": [{"stage", "old", "new", "days"}]}``: versions and the dates of the
        Debian archives, ``""`` where there is none."""

    def reproduce(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """Build ``{"ref": image, disk, release, environment or commit, "offline", "secrets"}`` again, in a clean
        place, from the commit and the lock that the record names, and compare; a disk with its image.

        Progress ``{"text"}``; result ``{"image", "made": digest, "equal", "known": whether there is an image to
        compare files with, "layers": those that differ, {"name", "old", "new", "count", "paths": the first,
        [{"path", "how": [phrase]}]}, "config": [field], "disk": null or {"disk", "made": digest, "known",
        "parts": [name]}, "seconds", "commit", "repository"}``.
        """

    def check(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """Build ``{"repository", "commit", "path", "offline", "artifact", "secrets"}`` twice in clean places and
        compare, recording nothing; answers as ``reproduce``."""

    def push(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """Send ``{"ref": image, release, environment or commit, "name": HOST/PATH[:TAG], "artifact": "image" |
        "disk", "authfile", "certificates": {name: content}, "insecure"}`` (contents in base64, kept nowhere) with all
        that is signed of it; with "disk" its disks, too.

        Progress ``{"text"}``; result ``{"image", "name", "tag", "referrers": n, "listed", "disks": [digest]}``.
        """

    def pull(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """Take ``{"name": HOST/PATH[:TAG][@DIGEST], "artifact", …}`` as in ``push``. What comes is verified before it
        is recorded.

        Progress ``{"text"}``; result ``{"image", "app", "name", "moved": digest or "", "keys", "strangers": n,
        "disks": [digest]}``.
        """

    async def apply(self, actor: str, request: Json) -> Json:
        """``{"spec": text, "dry_run", "environment": name or ""}`` to
        ``{"changes": [{"environment", "path", "old", "new"}], "applied": [environment],
        "warnings": [text]}``."""

    async def environments(self, app: str) -> Json:
        """``{"environments": [...]}`` as they were applied: ``{"app", "name", "processes", ...}``."""

    async def deploy(self, actor: str, request: Json) -> Json:
        """``{"environment", "image", "release", "strategy", "supersede", "plan", "key", "reason"}`` to
        ``{"deployment", "release", "previous", "image", "disk": what machines boot or ""}``. In a freeze it is
        refused, unless it shall ``"wait"`` for the end or is an ``"emergency"`` (why). The same ``key`` gives the
        same answer; with a ``plan`` (its index, or None) raises Conflict when something that matters was recorded
        since. Back across the run of a job that cannot be undone it goes only with ``irreversible``, else it raises
        Refused.
        """

    async def rollback(self, actor: str, request: Json) -> Json:
        """``{"environment", "to", "plan", "key", "reason"}`` to the same shape as ``deploy``."""

    async def plan(self, request: Json) -> Json:
        """What ``{"environment", "image", "release", "commit", "path", "strategy", "supersede", "rollback", "spec"}``
        would do, recording nothing: ``{"environment", "index", "kind", "from": end or null, "to": end, "processes":
        {name: {"now", "then"}}, "settings": [{"name", "change"}], "secret_env": the same, "secrets": [{"name", "old",
        "new"}], "hosts", "platform": as in ``environments``, "promote_from", "policy", "strategy", "steps": [step],
        "after": step, "gates": [{"soak", "manual", "job", "checks"}] one a step, "warm": {release: until},
        "rollout": as in ``status``, "refusals": [{"kind", "message", "hint", "exit"}], "refusal": the first or null,
        "warnings": [text], "spec": [{"path", "old", "new"}], "nothing": true when it serves already,
        "changes": {"packages": [{"kind", "name", "old", "new"}], "files": {change: n}, "first": [{"path", "change"}],
        "size": {"old", "new"}} or null, "memory": {"needed", "others", "machine"}}``.

        An end is ``{"release", "image", "disk", "commit", "subject"}``; a step ``{"holds": [{"release", "process",
        "serving", "warm"}], "traffic": {release: basis points}, "ratio": the same}``, where no traffic means equal
        shares, or those of ``ratio``.
        """

    async def promote(self, actor: str, request: Json) -> Json:
        """Deploy the image that is verified in ``"from"`` to ``"to"``; the rest and the answer are as of ``deploy``.
        ``from`` may be an environment of another controller whose word counts."""

    async def approve(self, actor: str, request: Json) -> Json:
        """``{"environment", "deployment", "reason"}``: approve a deployment that waits for it, or open the gate of
        the step at which one waits for a person: ``{"deployment", "environment", "approvals", "waits"}``. Raises
        Conflict when another one holds the environment, and so for ``""``, of who saw none."""

    async def reject(self, actor: str, request: Json) -> Json:
        """End a deployment that waits for a person; takes and answers what ``approve`` does, with a reason."""

    async def trust(self, actor: str, request: Json) -> Json:
        """``{"pem", "verifies": environment}``: what the owner of this key says was verified there counts here:
        ``{"key", "verifies"}``."""

    async def abort(self, actor: str, request: Json) -> Json:
        """``{"environment", "reason"}`` to ``{"deployment"}``: the one that is being ended."""

    async def pause(self, actor: str, request: Json) -> Json:
        """``{"environment", "reason"}`` to ``{"deployment", "step", "steps"}``: it makes no step forward, and no soak
        goes by, until it is resumed; raises Conflict when nothing is under way, or it goes back."""

    async def resume(self, actor: str, request: Json) -> Json:
        """As ``pause``: it goes on; raises Conflict when it is not paused."""

    async def hurry(self, actor: str, request: Json) -> Json:
        """As ``pause``: it goes on without the soaks, gates and analysis that are left. What is not ready still gets
        no traffic."""

    async def scale(self, actor: str, request: Json) -> Json:
        """``{"environment", "processes": {name: count}}`` to ``{"environment", "processes"}``."""

    async def inspect(self, environment: str) -> Json:
        """Inspect what runs in an environment (``""``: in all), now and byte by byte; what is found is recorded:
        ``{"environments": [{"environment", "as_of", "instances": that drifted, "others", "policy", "storm": {"at",
        "found", "of"} or null, "running": [{"id", "process", "release", "inspected", "missed": why not, "findings"}],
        "findings": [{"drift", "what", "since", "recorded", "evidence": [line]}]}]}``."""

    async def replace(self, actor: str, request: Json) -> Json:
        """Replace ``{"environment", "instances", "drifted": those that drifted too, "reason"}`` by new instances of
        the same release, which are ready first: ``{"environment", "instances", "storm_ended"}``."""

    async def deployment(self, deployment: str) -> Json:
        """``{"deployment", "environment", "kind", "release", "image", "disk", "previous", "actor", "requested_at",
        "reason", "outcome": word or "", "ended_at": time or null, "why", "details": [lines],
        "warm_until": time or null, "serving": {"release", "ready", "wanted"}, "hosts": [...]}``."""

    def watch(self, deployment: str) -> AsyncIterator[Json]:
        """Progress ``{"text", "step", "ready", "wanted"}`` whenever it changes; result as ``deployment``."""

    async def status(self, environment: str) -> Json:
        """``{"environments": [row], "record": {"size", "root"}, "storage": {"cleaned_at": time or null, "bytes",
        "problem"}, "refusals": [of witnesses of the log]}``; *environment* is ``app/env`` or ``""`` for all.

        A row is ``{"app", "environment", "image", "disk", "release", "commit", "instances": {"ready", "wanted"},
        "processes": {name: {"ready", "wanted"}}, "traffic": {release: basis points}, "since", "state", "detail",
        "hosts": [...], "platform": as in ``environments``, "warm": {release: until}, "rollout": {...} or null,
        "drift": {"instances", "others", "policy", "storm"}}``.
        """

    async def history(self, request: Json) -> Json:
        """The newest ``{"limit"}`` events of ``"environment"`` (``""``: of all), oldest first; with ``"everything"``
        each act and observation too; only those ``"by"`` a person, ``"of"`` what a reference names, and from
        ``"since"`` to ``"until"`` (moments, see ``state``), each ``""`` for any: ``{"events": [{"index", "at",
        "actor", "environment", "kind", "text"}]}``."""

    async def show(self, ref: str) -> Json:
        """What *ref* (a unique prefix, or the whole name of a person or of an instance, also of one that is gone)
        names: ``{"kind": "image|release|deployment|instance|commit|run|person", ...}``."""

    async def proof(self, ref: str) -> Json:
        """What was verified of the image that *ref* (an image, release, environment or commit) means: ``{"image",
        "trusted", "signature", "provenance", "sbom": each {"ok", "key", "why"}, "built": {...} or null, "revoked":
        {"by", "at", "reason"} or null, "problems", "counts": {kind: n}, "packages": [...]}``."""

    async def document(self, ref: str, kind: str) -> Json:
        """The ``sbom`` or the ``provenance`` of an image, verified: ``{"image", "key", "document"}``; raises Failed
        when there is none that counts."""

    async def diff(self, old: str, new: str) -> Json:
        """What differs between two images: ``{"old", "new", "packages", "files", "layers", "processes",
        "settings", "secrets", "unknown", "environments"}``; settings by name and secrets by version, where both are
        releases or environments. An environment may be ``APP/ENV@MOMENT``: as it was then (see ``state``)."""

    async def export(self, ref: str) -> Json:
        """What *ref* (an image, disk, release, environment or commit) means, for tools elsewhere to adopt, all of it
        verified: ``{"app", "environment", "release", "image", "size", "places": [{"name": HOST/PATH@DIGEST, "tag",
        "at"}], "signature", "provenance", "sbom": each {"digest", "key"}, "built": as in ``proof``, "disk":
        {"digest", "raw", "size", "compressed", "compressed_size", "root_hash", "uki", "kernel", "architecture",
        "format", "places", "signature", "provenance"} or null}``. Raises Failed for what is not signed by a key that
        counts."""

    def disk(self, digest: str) -> AsyncIterator[Json]:
        """Give the bytes of a disk: progress ``{"data": base64}``, one piece after the other of a file of zstd;
        result ``{"disk", "compressed", "bytes", "raw", "size"}``, the digests and sizes of the file and of what it
        holds."""

    async def keys(self) -> Json:
        """``{"keys": [{"key", "pem", "added_by", "added_at", "signs", "counts", "verifies", "revoked"}]}``: whose
        signatures count, and whose word on what was verified elsewhere."""

    async def import_key(self, actor: str, text: str) -> Json:
        """Sign with the private key in a PEM from now on, or let the signatures of a public one count:
        ``{"key"}``."""

    async def revoke(self, actor: str, ref: str, reason: str) -> Json:
        """Take back an image, or a key (``k-…``): ``{"revoked", "running": [environment]}``; what runs goes on."""

    async def set_secret(self, actor: str, request: Json) -> Json:
        """Give a secret a value, ``{"environment", "name", "value": in base64}``, which is a new version unless the
        newest has this value: ``{"environment", "name", "version", "new", "listed": by the environment's table,
        "image": what serves}``. The value is in no record, log or answer."""

    async def secrets(self, environment: str) -> Json:
        """``{"environment", "secrets": [{"name", "listed", "variable", "versions": [{"version", "by", "at",
        "revoked", "wiped", "releases", "held"}]}]}``: never a value."""

    async def revoke_secret(self, actor: str, request: Json) -> Json:
        """Take back ``{"environment", "name", "version", "reason"}``: ``{"environment", "name", "version",
        "releases": those that run with it, "wiped", "image": what serves}``."""

    async def state(self, moment: str, environment: str) -> Json:
        """``{"at", "index", "environments": [...]}``: what ran at *moment* (microseconds since 1970, ``@N`` once
        event N was recorded, or ``d-N`` once that deployment was asked for), each environment with
        ``"instances": [{"id", "process", "release", "since", "ready"}]``,
        ``"subject"``, ``"deployed_by"``, ``"deployed_at"``, and
        ``"observed"``: {"since", "until", "share", "gaps"} of the day before."""

    async def where(self, ref: str, everywhere: bool) -> Json:
        """Where *ref*, a commit, image, release, or package (``NAME`` or ``NAME=VERSION``), runs now, or with
        *everywhere* ever ran: ``{"ref", "kind", "images", "ever", "releases", "instances", "unknown"}``."""

    async def render(self, request: Json) -> Json:
        """``{"environment", "image", "release", "commit", "path"}`` to ``{"environment", "namespace", "objects",
        "release", "image", "secret", "secrets": {name: version}}``: what a release is on the environment's cluster
        when it alone serves. Nothing is sent, and no secret is told."""

    async def cluster_setup(self, environment: str, what: str, user: str) -> Json:
        """``{"environment", "namespace", "objects"}`` that the administrator of a cluster applies once: the admission
        ``policy`` of the namespace, or (``rbac``) what a controller may do there as *user*, "" for a service
        account."""

    def logs(self, environment: str, instance: str, release: str, process: str, follow: bool) -> AsyncIterator[Json]:
        """Progress ``{"instance", "at", "stream", "text"}``, one a line of output."""

    async def run(self, actor: str, request: Json) -> Json:
        """Run ``{"environment", "job": name or "", "command": [word], "timeout": 0 for the usual, "key"}`` once, from
        the stable release: ``{"run", "job", "command", "release", "outcome", "status", ...}``. The same ``key`` is
        the same run."""

    async def debug(self, actor: str, request: Json) -> Json:
        """Make a copy of ``{"instance", "command": [word], or a shell, "reason", "timeout": 0 for the usual, "tools",
        "rows", "columns": 0 for no terminal, "term", "key"}`` for the actor to talk to; answers as ``run``. It is
        ended when its terminal stays away."""

    def terminal(self, actor: str, environment: str, run: str, typed: Typed) -> AsyncIterator[Json]:
        """Talk to a debug session of the actor's own: progress ``{"stream", "data": base64, "typed": bytes that have
        reached it}``; result as ``run``. It is ended when the actor goes away."""

    async def cancel_run(self, actor: str, request: Json) -> Json:
        """End the run of ``{"environment", "run"}``; answers as ``run``."""

    def watch_run(self, environment: str, run: str, skip: int) -> AsyncIterator[Json]:
        """Progress ``{"instance", "at", "stream", "text"}``, one a line of its output but the first *skip*; result as
        ``run``, when it is over."""

    async def down(self, actor: str, app: str) -> Json:
        """Stop the environments of *app*: ``{"stopped": [...]}``; ``""`` stops all of them."""

    async def start(self, actor: str, app: str) -> Json:
        """Serve again what ``down`` stopped: ``{"started": [...]}``; ``""`` for every app."""

    async def gc(self, actor: str, dry_run: bool) -> Json:
        """``{"removed": [{"what", "name", "bytes", "reason"}], "bytes", "left": [path that is not the store's]}``."""

    async def verify_ledger(self) -> Json:
        """Check the whole record, and all that is published of it: ``{"size", "root", "origin", "published": size of
        the checkpoint, "published_root", "witnessed": the newest cosigned checkpoint, "witnessing": what witnesses
        answered}``; raises Failed that names the first bad index."""

    async def receipt(self, ref: str, witnessed: bool) -> Json:
        """``{"index", "size", "origin", "text"}``: the proof that the event *ref* (a number, or a deployment: the
        event that asked for it) is in the log, as a C2SP tlog-proof; with *witnessed* it has the cosignatures that
        the policy wants, or Failed says which are missing."""

    async def consistency(self, old: int) -> Json:
        """``{"size", "origin", "checkpoint", "hashes"}``: the newest signed checkpoint, and the proof (RFC 6962,
        base64) that it goes on from the one of *old* events."""

    async def witness_policy(self) -> Json:
        """``{"text", "digest", "witnessing": what they answered}``: who has to cosign the log, a C2SP tlog-policy; ""
        for nobody."""

    async def set_witness_policy(self, actor: str, text: str) -> Json:
        """As ``witness_policy``, which is so from now on."""

    async def log_key(self) -> Json:
        """``{"origin", "key"}``: the log's name, and the line that its checkpoints are checked with."""

    def export_log(self, evidence: bool) -> AsyncIterator[Json]:
        """Progress ``{"data": base64}``, one piece after the other of a tar of the log, and with *evidence* of what
        is signed of its images; result ``{"origin", "size", "root", "bytes", "sha256"}`` of all of it. Raises Failed
        when the record is not what was signed."""
