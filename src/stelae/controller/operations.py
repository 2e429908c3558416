"""The operations of the API, in one table: its routes and its description are both made of it.

A new route is a row here, a message in ``messages.py`` for what it takes, and a shape in ``shapes/`` for what it
answers.
"""

from __future__ import annotations

from stelae.controller import audit_messages as am
from stelae.controller import cluster_messages as cm
from stelae.controller import drift_messages as dm
from stelae.controller import export_messages as xm
from stelae.controller import messages as m
from stelae.controller import past_messages as ppm
from stelae.controller import promotion_messages as pm
from stelae.controller import run_messages as rm
from stelae.controller import secret_messages as sm
from stelae.controller.operation import CONFLICT, REFUSED, Operation, get, post, stream, upload
from stelae.controller.shapes import (
    audit,
    clusters,
    common,
    drift,
    environments,
    exports,
    images,
    machine,
    past,
    plans,
    proofs,
    runs,
    secrets,
)

_MACHINE = (
    get("ping", "/v1/ping", m.Nothing, machine.Ping, "Say who answers.", lambda s, _: s.ping()),
    post(
        "down", "/v1/down", m.App, machine.Stopped, "Take the environments of an app down, and wait until they are.",
        lambda s, actor, asked: s.down(actor, asked.app),
    ),
    post(
        "start", "/v1/start", m.App, machine.Started, "Serve again what was taken down.",
        lambda s, actor, asked: s.start(actor, asked.app),
    ),
    post(
        "gc", "/v1/gc", m.Collect, machine.Removed, "Remove what nothing needs any more.",
        lambda s, actor, asked: s.gc(actor, asked.dry_run),
    ),
)  # fmt: skip

_SOURCES = (
    post(
        "missing", "/v1/sources/missing", m.Missing, images.Lacking, "Say which git objects are not here yet.",
        lambda s, _, asked: s.missing(asked.repository, asked.objects),
    ),
    upload(
        "receive", "/v1/sources", m.RepositoryQuery, images.Received, "Take a git pack.",
        lambda s, actor, asked, pack: s.receive(actor, asked.repository, pack),
    ),
    stream(
        "build", "POST", "/v1/builds", m.Build, common.Text, images.Built, "Build a commit.",
        lambda s, actor, asked: s.build(actor, asked.plain()),
    ),
    stream(
        "lock", "POST", "/v1/locks", m.Lock, common.Text, images.Locked, "Pin what a commit needs.",
        lambda s, actor, asked: s.lock(actor, asked.plain()),
    ),
    stream(
        "reproduce", "POST", "/v1/reproductions", m.Reproduce, common.Text, images.Reproduced,
        "Build an image of the record again, and compare.",
        lambda s, actor, asked: s.reproduce(actor, asked.plain()),
    ),
    stream(
        "check", "POST", "/v1/checks", m.Check, common.Text, images.Reproduced, "Build a commit twice, and compare.",
        lambda s, actor, asked: s.check(actor, asked.plain()),
    ),
)  # fmt: skip

_SECRETS = (
    post(
        "set_secret", "/v1/secrets", sm.SetSecret, secrets.SecretSet, "Give a secret of an environment a value.",
        lambda s, actor, asked: s.set_secret(actor, asked.plain()),
    ),
    get(
        "secrets", "/v1/secrets", sm.SecretsQuery, secrets.Secrets,
        "Show the secrets of an environment: names and versions.", lambda s, asked: s.secrets(asked.environment),
    ),
    post(
        "revoke_secret", "/v1/secret-revocations", sm.RevokeSecret, secrets.SecretRevoked,
        "Take back a version of a secret.",
        lambda s, actor, asked: s.revoke_secret(actor, asked.plain()), also=(CONFLICT,),
    ),
)  # fmt: skip

_REGISTRIES = (
    stream(
        "push", "POST", "/v1/pushes", m.Push, common.Text, images.Pushed,
        "Send an image to a registry, with what is signed of it.",
        lambda s, actor, asked: s.push(actor, asked.plain()),
    ),
    stream(
        "pull", "POST", "/v1/pulls", m.Pull, common.Text, images.Pulled,
        "Take an image from a registry, with what is signed of it.",
        lambda s, actor, asked: s.pull(actor, asked.plain()),
    ),
)  # fmt: skip

_ENVIRONMENTS = (
    post(
        "apply", "/v1/environments/apply", m.Apply, environments.Applied,
        "Make environments what a stelae.toml says.",
        lambda s, actor, asked: s.apply(actor, asked.plain()),
    ),
    get(
        "environments", "/v1/environments", m.AppQuery, environments.Environments,
        "Show the environments as they were applied.", lambda s, asked: s.environments(asked.app),
    ),
    post(
        "scale", "/v1/scales", m.Scale, environments.Scaled, "Set how many instances processes have.",
        lambda s, actor, asked: s.scale(actor, asked.plain()),
    ),
    post(
        "inspect", "/v1/inspections", dm.Inspect, drift.Inspections,
        "Look now whether what runs is what its release says, byte by byte.",
        lambda s, _, asked: s.inspect(asked.environment),
    ),
    post(
        "replace", "/v1/replacements", dm.Replace, drift.Replaced,
        "Replace instances by new ones of the same release, which are ready first.",
        lambda s, actor, asked: s.replace(actor, asked.plain()), also=(CONFLICT,),
    ),
    get(
        "status", "/v1/status", m.EnvironmentQuery, environments.Status, "Show where things stand.",
        lambda s, asked: s.status(asked.environment),
    ),
    get(
        "render", "/v1/render", cm.RenderQuery, clusters.Rendered, "Print what a release is on a cluster.",
        lambda s, asked: s.render(asked.plain()),
    ),
    get(
        "cluster_setup", "/v1/cluster-setup", cm.ClusterSetupQuery, clusters.Objects,
        "Print what the administrator of a cluster applies once.",
        lambda s, asked: s.cluster_setup(asked.environment, asked.what, asked.user),
    ),
    stream(
        "logs", "GET", "/v1/logs", m.LogsQuery, machine.LogLine, common.Empty, "Show what instances wrote.",
        lambda s, _, asked: s.logs(
            asked.environment, asked.instance, asked.release, asked.process, asked.follow
        ),
    ),
)  # fmt: skip

_RUNS = (
    post(
        "run", "/v1/runs", rm.StartRun, runs.Run, "Run a job, or a command, of what serves in an environment.",
        lambda s, actor, asked: s.run(actor, asked.plain()), also=(CONFLICT,),
    ),
    post(
        "cancel_run", "/v1/run-cancellations", rm.CancelRun, runs.Run, "End a run.",
        lambda s, actor, asked: s.cancel_run(actor, asked.plain()),
    ),
    post(
        "debug", "/v1/debug-sessions", rm.StartDebug, runs.Run, "Make a copy of an instance to look into.",
        lambda s, actor, asked: s.debug(actor, asked.plain()), also=(REFUSED, CONFLICT),
    ),
    Operation(
        name="terminal", method="POST", path="/v1/debug-sessions/terminal", takes=rm.TerminalQuery, typed=rm.Typed,
        summary="Talk to a debug session, until it is over. Whoever goes away ends it.",
        progress=runs.Shown, answers=runs.Run, also=(REFUSED, CONFLICT),
        exchange=lambda s, actor, asked, typed: s.terminal(actor, asked.environment, asked.run, typed),
    ),
    stream(
        "watch_run", "GET", "/v1/runs/watch", rm.WatchRun, machine.LogLine, runs.Run, "Follow a run to its end.",
        lambda s, _, asked: s.watch_run(asked.environment, asked.run, asked.skip),
    ),
)  # fmt: skip

_DEPLOYMENTS = (
    post(
        "plan", "/v1/plans", m.Plan, plans.Planned, "Show what a deployment or a rollback would change.",
        lambda s, _, asked: s.plan(asked.plain()),
    ),
    post(
        "deploy", "/v1/deployments", m.Deploy, environments.Deployed, "Move an environment to an image or a release.",
        lambda s, actor, asked: s.deploy(actor, asked.plain()), also=(REFUSED, CONFLICT),
    ),
    get(
        "deployment", "/v1/deployments/{id}", m.DeploymentPath, environments.Deployment, "Show a deployment.",
        lambda s, asked: s.deployment(asked.id),
    ),
    stream(
        "watch", "GET", "/v1/deployments/{id}/watch", m.DeploymentPath, environments.Progress,
        environments.Deployment,
        "Follow a deployment to its end.", lambda s, _, asked: s.watch(asked.id),
    ),
    post(
        "rollback", "/v1/rollbacks", m.Rollback, environments.Deployed, "Go back to an earlier release.",
        lambda s, actor, asked: s.rollback(actor, asked.plain()), also=(REFUSED, CONFLICT),
    ),
    post(
        "abort", "/v1/aborts", m.Abort, environments.Aborted, "End the deployment that is under way, and go back.",
        lambda s, actor, asked: s.abort(actor, asked.plain()), also=(CONFLICT,),
    ),
    post(
        "pause", "/v1/pauses", m.Abort, environments.Steered, "Hold the deployment that is under way where it is.",
        lambda s, actor, asked: s.pause(actor, asked.plain()), also=(CONFLICT,),
    ),
    post(
        "resume", "/v1/resumptions", m.Abort, environments.Steered, "Let a deployment go on that is paused.",
        lambda s, actor, asked: s.resume(actor, asked.plain()), also=(CONFLICT,),
    ),
    post(
        "hurry", "/v1/hurries", m.Abort, environments.Steered,
        "Skip the soaks, gates and analysis that are left of the deployment that is under way.",
        lambda s, actor, asked: s.hurry(actor, asked.plain()), also=(CONFLICT,),
    ),
)  # fmt: skip

_PROMOTION = (
    post(
        "promote", "/v1/promotions", pm.Promote, environments.Deployed,
        "Move an environment to the image that is verified in another.",
        lambda s, actor, asked: s.promote(actor, asked.plain()), also=(REFUSED, CONFLICT),
    ),
    post(
        "approve", "/v1/approvals", pm.Approve, environments.LetOn, "Let a deployment on that waits for a person.",
        lambda s, actor, asked: s.approve(actor, asked.plain()), also=(REFUSED, CONFLICT),
    ),
    post(
        "reject", "/v1/rejections", pm.Reject, environments.LetOn, "End a deployment that waits for a person.",
        lambda s, actor, asked: s.reject(actor, asked.plain()), also=(CONFLICT,),
    ),
    post(
        "trust", "/v1/verifiers", pm.Trust, proofs.VerifierTrusted,
        "Take a key's word on what was verified in an environment of another controller.",
        lambda s, actor, asked: s.trust(actor, asked.plain()), also=(CONFLICT,),
    ),
)  # fmt: skip

_RECORD = (
    get(
        "history", "/v1/history", ppm.HistoryQuery, environments.History, "Show what happened.",
        lambda s, asked: s.history(asked.plain()),
    ),
    get(
        "show", "/v1/show", m.ShowQuery, proofs.Shown, "Show what a reference names.",
        lambda s, asked: s.show(asked.ref),
    ),
    get(
        "proof", "/v1/proofs", m.ShowQuery, proofs.Proof, "Say what is proven of an image, and what is inside.",
        lambda s, asked: s.proof(asked.ref),
    ),
    get(
        "document", "/v1/documents", m.DocumentQuery, proofs.Document,
        "Show the verified provenance of an image, or its list of what is inside.",
        lambda s, asked: s.document(asked.ref, asked.kind),
    ),
    get(
        "diff", "/v1/diffs", m.DiffQuery, past.Differs,
        "Show what differs between two images, or two environments, or two times.",
        lambda s, asked: s.diff(asked.old, asked.new),
    ),
    get(
        "export", "/v1/exports", xm.HandOver, exports.Exported,
        "Hand over an image, its disk, and where both come from: verified.", lambda s, asked: s.export(asked.ref),
    ),
    stream(
        "disk", "GET", "/v1/disks", xm.DiskBytes, audit.Piece, exports.DiskSent,
        "Give the bytes of a disk, compressed by zstd.", lambda s, _, asked: s.disk(asked.disk),
    ),
    get("keys", "/v1/keys", m.Nothing, proofs.Keys, "Show whose signatures count.", lambda s, _: s.keys()),
    post(
        "import_key", "/v1/keys", m.ImportKey, proofs.Key, "Sign with a key, or trust one.",
        lambda s, actor, asked: s.import_key(actor, asked.pem), also=(CONFLICT,),
    ),
    post(
        "revoke", "/v1/revocations", m.Revoke, proofs.Revoked, "Take back an image or a key.",
        lambda s, actor, asked: s.revoke(actor, asked.ref, asked.reason), also=(CONFLICT,),
    ),
    get(
        "state", "/v1/state", ppm.StateQuery, past.Then, "Show what ran at a time.",
        lambda s, asked: s.state(asked.at, asked.environment),
    ),
    get(
        "where", "/v1/where", ppm.WhereQuery, past.Where, "Show where something runs, or ever ran.",
        lambda s, asked: s.where(asked.ref, asked.ever),
    ),
    post(
        "verify_ledger", "/v1/verify-ledger", m.Nothing, audit.Audited,
        "Check the whole record, and all that is published of it.", lambda s, _, asked: s.verify_ledger(),
    ),
    get(
        "receipt", "/v1/receipts", am.ReceiptQuery, audit.Receipt, "Prove that an event is in the log.",
        lambda s, asked: s.receipt(asked.ref, asked.witnessed),
    ),
    get(
        "consistency", "/v1/consistency", am.ConsistencyQuery, audit.Consistency,
        "Prove that the log goes on from an older checkpoint.", lambda s, asked: s.consistency(asked.old),
    ),
    get(
        "witness_policy", "/v1/witness-policy", m.Nothing, audit.Policy, "Show who has to cosign the log.",
        lambda s, _: s.witness_policy(),
    ),
    post(
        "set_witness_policy", "/v1/witness-policy", am.SetPolicy, audit.Policy, "Say who has to cosign the log.",
        lambda s, actor, asked: s.set_witness_policy(actor, asked.text),
    ),
    get("log_key", "/v1/log-key", m.Nothing, audit.LogKey, "Show the log's key.", lambda s, _: s.log_key()),
    stream(
        "export_log", "GET", "/v1/log-exports", am.ExportQuery, audit.Piece, audit.Exported,
        "Give the whole log as an archive that anybody can check.", lambda s, _, asked: s.export_log(asked.evidence),
    ),
)  # fmt: skip

OPERATIONS = (
    *_MACHINE, *_SOURCES, *_REGISTRIES, *_SECRETS, *_ENVIRONMENTS, *_RUNS, *_DEPLOYMENTS, *_PROMOTION, *_RECORD,
)  # fmt: skip
"""All of them, but the description itself."""
