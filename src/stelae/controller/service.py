"""The service: every use case of the controller behind the one contract that the API serves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from stelae import __version__
from stelae.controller.approvals import Approvals
from stelae.controller.audit import Audit
from stelae.controller.cleaner import Cleaner
from stelae.controller.clusters import Clusters
from stelae.controller.comparing import Comparing
from stelae.controller.contract import Json
from stelae.controller.debugging import Debugging
from stelae.controller.deployments import Deployments
from stelae.controller.drifts import Drifts
from stelae.controller.environments import Environments
from stelae.controller.exports import Exports
from stelae.controller.inside import Inside
from stelae.controller.inspection import Inspections
from stelae.controller.notifications import Notifier
from stelae.controller.past import Past
from stelae.controller.plans import Plans
from stelae.controller.proofs import Proofs
from stelae.controller.queries import Queries
from stelae.controller.record import Record
from stelae.controller.reproductions import Reproductions
from stelae.controller.runs import Runs
from stelae.controller.secrets import Secrets
from stelae.controller.steering import Steering
from stelae.controller.storage import Storage
from stelae.controller.transfers import Transfers
from stelae.controller.verifications import Verifications
from stelae.controller.watching import Watches
from stelae.controller.whereabouts import Whereabouts


class ControllerService:
    """Implements ``Service``."""

    def __init__(
        self, *, record: Record, deployments: Deployments, environments: Environments, queries: Queries,
        plans: Plans, storage: Storage, cleaner: Cleaner, proofs: Proofs, inside: Inside,
        reproductions: Reproductions, transfers: Transfers, secrets: Secrets, runs: Runs, debugging: Debugging,
        approvals: Approvals, verifications: Verifications, notifier: Notifier, audit: Audit,
        inspections: Inspections, past: Past, whereabouts: Whereabouts, comparing: Comparing, watches: Watches,
        clusters: Clusters, exports: Exports, http_port: int,
    ) -> None:  # fmt: skip
        self._record = record
        self._storage = storage
        self._http_port = http_port
        self.policy = deployments.policy  # for the loops
        self.watches = watches
        self.plan = plans.plan
        self.keep_telling = notifier.keep_telling
        self._of_environments(deployments, environments, Steering(record))
        self._of_promotion(approvals, verifications)
        self._of_builds(storage, reproductions, transfers, cleaner)
        self._of_images(proofs, inside, comparing)
        self._of_secrets(secrets)
        self._of_runs(runs, debugging)
        self._of_instances(Drifts(record, inspections), inspections)
        self._of_now(queries)
        self._of_then(past, whereabouts)
        self._of_the_log(audit)
        self.render = clusters.render
        self.cluster_setup = clusters.cluster_setup
        self.export = exports.export
        self.disk = exports.disk

    def _of_environments(self, deployments: Deployments, environments: Environments, steering: Steering) -> None:
        self.deploy = deployments.deploy
        self.rollback = deployments.rollback
        self.abort = deployments.abort
        self.scale = deployments.scale
        self.pause = steering.pause
        self.resume = steering.resume
        self.hurry = steering.hurry
        self.apply = environments.apply
        self.down = environments.down
        self.start = environments.start

    def _of_promotion(self, approvals: Approvals, verifications: Verifications) -> None:
        self.promote = approvals.promote
        self.approve = approvals.approve
        self.reject = approvals.reject
        self.trust = verifications.trust
        self.keep_signing = verifications.keep_signing

    def _of_builds(
        self, storage: Storage, reproductions: Reproductions, transfers: Transfers, cleaner: Cleaner
    ) -> None:
        self.build = storage.build
        self.settled = storage.settled
        self.reproduce = reproductions.reproduce
        self.check = reproductions.check
        self.push = transfers.push
        self.pull = transfers.pull
        self.gc = cleaner.gc
        self.keep_clean = cleaner.keep_clean

    def _of_images(self, proofs: Proofs, inside: Inside, comparing: Comparing) -> None:
        self.keys = proofs.keys
        self.import_key = proofs.import_key
        self.revoke = proofs.revoke
        self.proof = inside.proof
        self.document = inside.document
        self.diff = comparing.diff

    def _of_secrets(self, secrets: Secrets) -> None:
        self.set_secret = secrets.set_secret
        self.secrets = secrets.list_secrets
        self.revoke_secret = secrets.revoke
        self.keep_secrets = secrets.keep

    def _of_runs(self, runs: Runs, debugging: Debugging) -> None:
        self.run = runs.run
        self.cancel_run = runs.cancel
        self.watch_run = runs.watch
        self.debug = debugging.open
        self.terminal = debugging.terminal
        self.keep_terminals = debugging.keep_terminals

    def _of_instances(self, drifts: Drifts, inspections: Inspections) -> None:
        self.inspect = drifts.inspect
        self.replace = drifts.replace
        self.keep_inspecting = inspections.keep_inspecting

    def _of_now(self, queries: Queries) -> None:
        self.environments = queries.environments
        self.status = queries.status
        self.deployment = queries.deployment
        self.watch = queries.watch
        self.logs = queries.logs

    def _of_then(self, past: Past, whereabouts: Whereabouts) -> None:
        self.history = past.history
        self.show = past.show
        self.state = past.state
        self.where = whereabouts.where
        self.keep_indexing = past.keep_indexing
        self.close = past.close

    def _of_the_log(self, audit: Audit) -> None:
        self.verify_ledger = audit.verify
        self.receipt = audit.receipt
        self.consistency = audit.consistency
        self.witness_policy = audit.policy
        self.set_witness_policy = audit.set_policy
        self.log_key = audit.log_key
        self.export_log = audit.export
        self.keep_publishing = audit.keep_publishing

    async def ping(self) -> Json:
        """See ``Service.ping``."""
        ledger = self._record.ledger
        return {
            "version": __version__, "pid": os.getpid(), "size": ledger.size, "root": ledger.root,
            "http_port": self._http_port,
        }  # fmt: skip

    async def missing(self, repository: str, objects: Sequence[str]) -> Json:
        """See ``Service.missing``."""
        return await self._storage.missing(repository, list(objects))

    async def receive(self, actor: str, repository: str, pack_path: Path) -> Json:
        """See ``Service.receive``."""
        return await self._storage.receive(repository, pack_path)

    def lock(self, actor: str, request: Json) -> AsyncIterator[Json]:
        """See ``Service.lock``."""
        return self._storage.lock(request)
