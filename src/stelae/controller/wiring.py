"""How the use cases hang together: one controller's, over its record, its platform and its image store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from stelae.attest.contents import Inspector
from stelae.attest.keys import Keys
from stelae.build.builder import Builder
from stelae.build.disk_builder import DiskBuilder
from stelae.build.inputs import Inputs
from stelae.build.mirror import Mirror
from stelae.build.reproduce import Reproducer
from stelae.controller import abilities, holding, people
from stelae.controller.admission import Admission
from stelae.controller.approvals import Approvals
from stelae.controller.audit import Audit
from stelae.controller.changes import Changes
from stelae.controller.cleaner import Cleaner
from stelae.controller.clusters import Clusters
from stelae.controller.comparing import Comparing
from stelae.controller.debugging import Debugging
from stelae.controller.deployments import Deployments
from stelae.controller.disk_builds import DiskBuilds
from stelae.controller.environments import Environments
from stelae.controller.exports import Exports
from stelae.controller.inside import Inside
from stelae.controller.inspection import Inspections
from stelae.controller.notifications import Notifier
from stelae.controller.observed import Observed
from stelae.controller.past import Past
from stelae.controller.plans import Plans
from stelae.controller.proofs import Proofs
from stelae.controller.queries import Queries
from stelae.controller.record import Record
from stelae.controller.reproductions import Reproductions
from stelae.controller.runs import Runs
from stelae.controller.secret_keys import SecretKeys
from stelae.controller.secret_store import SecretStore
from stelae.controller.secrets import Secrets
from stelae.controller.service import ControllerService
from stelae.controller.space import Space
from stelae.controller.storage import Storage
from stelae.controller.transfers import Transfers
from stelae.controller.verifications import Verifications
from stelae.controller.watching import Watches
from stelae.controller.whereabouts import Whereabouts
from stelae.domain.units import Instant
from stelae.images.disks import Disks
from stelae.images.layout import Layout
from stelae.images.roots import Roots
from stelae.ledger.history.index import History
from stelae.platforms.port import Platform
from stelae.system.installation import Installation


def secrets_of(installation: Installation, record: Record) -> Secrets:
    """Return the use cases of the secrets of *installation*, which its engine reads too."""
    keys = SecretKeys(installation.keys)
    store = SecretStore(installation.secrets, installation.name, keys, lambda: record.state.names)
    return Secrets(record, store)


def use_cases(
    installation: Installation, record: Record, platform: Platform, layout: Layout, roots: Roots, disks: Disks,
    clock: Callable[[], Instant], secrets: Secrets, *, group: str,
) -> ControllerService:  # fmt: skip
    """Return the use cases of *installation*'s controller; what builds run is put below the control group *group*."""
    mirror = Mirror(installation.sources)
    builder = Builder(layout, mirror, installation.cache / "build", installation.inputs, group=group)
    reproducer = Reproducer(layout, mirror, installation.cache / "again", installation.inputs, group=group)
    space = Space()
    environments = Environments(
        record, installation.addresses, people.strangers, partial(holding.problems, installation)
    )
    admission = Admission(record, layout)
    inspector = Inspector(layout, installation.cache / "contents")
    proofs = Proofs(record, layout, inspector, Keys(installation.keys))
    inputs = Inputs(installation.inputs)
    disk_builds = DiskBuilds(record, DiskBuilder(builder, disks, roots), disks, inputs, proofs, space, clock)
    deployments = Deployments(record, platform, space, admission, clock, disk_builds)
    inside = Inside(record, layout, inspector, admission)
    inspections = Inspections(record, platform, clock)
    watches = Watches()
    inspections.on_sweep(lambda name, found: watches.of(name).inspected(found))
    history = History(record.ledger, installation.cache / "history", installation.keys / "history")
    queries = Queries(record, platform, history, clock)
    observed = Observed(record.ledger, history, watches)
    past = Past(record, queries, history, observed, clock)
    plans = Plans(
        record, environments, clock, admission, Changes(record, layout, inspector), partial(abilities.of, platform),
        partial(abilities.unmeasured, platform),
    )  # fmt: skip
    return ControllerService(
        record=record,
        deployments=deployments,
        environments=environments,
        queries=queries,
        plans=plans,
        storage=Storage(record, mirror, builder, clock, space, proofs, disk_builds),
        cleaner=Cleaner(record, installation, layout, roots, space, clock),
        proofs=proofs,
        inside=inside,
        reproductions=Reproductions(record, reproducer, inputs, space, inside.image),
        transfers=Transfers(record, layout, installation, space, inside.image),
        secrets=secrets,
        runs=Runs(record, platform),
        debugging=Debugging(record, platform, clock),
        approvals=Approvals(record, deployments, admission, clock),
        verifications=Verifications(record, layout, proofs, space),
        notifier=Notifier(record, installation.state / "notified"),
        audit=Audit(record, installation),
        inspections=inspections,
        past=past,
        whereabouts=Whereabouts(record, past, history, observed, inspector, clock),
        comparing=Comparing(record, past, history, inside),
        watches=watches,
        clusters=Clusters(record, partial(holding.identity, record), layout.config),
        exports=Exports(record, layout, disks, history, inside, admission),
        http_port=installation.http_port,
    )
