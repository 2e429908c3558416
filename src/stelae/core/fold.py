"""The fold of the installation: its state and what was recorded give the next one.

All that Stelae knows is made by folding. What is of one environment is folded by ``stelae.core.evolve``. Both are
total, and fold many events best at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from stelae.core.evolve import evolved, revises
from stelae.core.folds.witnesses import witnessed
from stelae.core.owned import changed, settled
from stelae.core.owned import with_item as _with
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.event import Recorded
from stelae.domain.state import Built, BuiltDisk, BuiltImage, Cleaning, EnvironmentState, InstallationState
from stelae.domain.trust import Attested, Revocation, TrustedKey
from stelae.domain.units import Instant

AnyBuilt = TypeVar("AnyBuilt", bound=Built)


def apply(state: InstallationState, recorded: Recorded) -> InstallationState:
    """Return the installation's state after *recorded*."""
    return apply_all(state, (recorded,))


def apply_all(state: InstallationState, recorded: Iterable[Recorded]) -> InstallationState:
    """Return the installation's state after all of *recorded*, which follow each other."""
    concerned = set()
    for item in recorded:
        state = _applied_to(state, item)
        concerned.add(item.environment)
    for name in concerned & state.environments.keys():
        state = _with_environment(state, settled(state.environments[name]))
    return settled(state)


def _applied_to(state: InstallationState, recorded: Recorded) -> InstallationState:
    event = recorded.event
    state = witnessed(changed(state, size=recorded.index + 1), recorded)
    if isinstance(event, ev.ImageBuilt):
        state = _built(state, event, recorded)
    if isinstance(event, ev.DiskBuilt):
        state = _disk_built(state, event, recorded)
    if isinstance(event, ev.DiskImported):
        state = _disk_imported(state, event, recorded)
    if isinstance(event, ev.ImageImported):
        state = _imported(state, event, recorded)
    if isinstance(event, ev.ImageAttested | ev.KeyTrusted | ev.Revoked):
        state = _trusted(state, event, recorded)
    if isinstance(event, ev.VerifierTrusted):
        key = TrustedKey(id=event.key, pem=event.pem, actor=recorded.actor, at=recorded.at, signs=False)
        known = state.verifiers.get(event.verifies, {})
        state = replace(state, verifiers=_with(state.verifiers, event.verifies, {**known, event.key: key}))
    if isinstance(event, ev.StorageCleaned):
        state = replace(state, cleaned=Cleaning(at=recorded.at, bytes=event.bytes, problem=event.problem))
    if isinstance(event, ev.InstallationRestored) and event.installation not in state.names:
        state = replace(state, names=(*state.names, event.installation))
    if isinstance(event, ev.ClockDiffers):
        state = replace(state, ahead=event.ahead)
    if isinstance(event, ev.DeploymentRequested):
        requests = _with(state.requests, recorded.key, event.deployment) if recorded.key else state.requests
        state = replace(state, deployments=state.deployments + 1, requests=requests)
    if recorded.environment:
        name = recorded.environment
        before = state.environments.get(name) or EnvironmentState(id=name)
        after = evolved(before, event, recorded.at, recorded.actor)
        if revises(event):
            after = replace(after, revision=recorded.index)
        state = _with_environment(state, after)
    return state


def _with_environment(state: InstallationState, env: EnvironmentState) -> InstallationState:
    return changed(state, environments=_with(state.environments, env.id, env))


def _built(state: InstallationState, event: ev.ImageBuilt, recorded: Recorded) -> InstallationState:
    known = state.images.get(event.image.digest)
    if known is None:
        known = BuiltImage(image=event.image, sources=(), actor=recorded.actor, built_at=recorded.at)
    if event.source not in known.sources:
        known = replace(known, sources=(*known.sources, event.source))
    known = _again(known, event.lock, recorded.at)
    return replace(state, images=_with(state.images, event.image.digest, known))


def _disk_built(state: InstallationState, event: ev.DiskBuilt, recorded: Recorded) -> InstallationState:
    known = state.disks.get(event.disk.digest)
    if known is None:
        known = BuiltDisk(disk=event.disk, commits=(), actor=recorded.actor, built_at=recorded.at)
    if event.commit not in known.commits:
        known = replace(known, commits=(*known.commits, event.commit))
    known = _again(known, event.lock, recorded.at)
    return replace(state, disks=_with(state.disks, event.disk.digest, known))


def _again(known: AnyBuilt, lock: str, at: Instant) -> AnyBuilt:
    """Return what is *known* of something that was built *at* a time, with *lock* ("": with none that is known)."""
    locks = known.locks if not lock or lock in known.locks else (*known.locks, lock)
    return replace(known, last_built_at=at, locks=locks)


def _imported(state: InstallationState, event: ev.ImageImported, recorded: Recorded) -> InstallationState:
    image = event.image.digest
    known = state.images.get(image)
    if known is None:
        known = BuiltImage(image=event.image, sources=(), actor=recorded.actor, built_at=recorded.at)
    images = _with(state.images, image, replace(known, last_built_at=recorded.at))
    attested = _vouched(state, image, event.keys, recorded)
    tags = _with(state.tags, f"{event.name}:{event.tag}", image) if event.tag else state.tags
    return replace(state, images=images, attested=attested, tags=tags)


def _disk_imported(state: InstallationState, event: ev.DiskImported, recorded: Recorded) -> InstallationState:
    disk = event.disk.digest
    known = state.disks.get(disk)
    if known is None:
        known = BuiltDisk(disk=event.disk, commits=(), actor=recorded.actor, built_at=recorded.at)
    disks = _with(state.disks, disk, replace(known, last_built_at=recorded.at))
    return replace(state, disks=disks, attested=_vouched(state, disk, event.keys, recorded))


def _vouched(
    state: InstallationState, name: Digest, keys: Iterable[str], recorded: Recorded
) -> Mapping[Digest, tuple[Attested, ...]]:
    """Return who signed what, with *keys* that were found to have signed *name* when it was taken."""
    signed = state.attested.get(name, ())
    new = tuple(Attested(key=key, at=recorded.at) for key in keys if key not in {item.key for item in signed})
    return _with(state.attested, name, (*signed, *new)) if new else state.attested


def _trusted(
    state: InstallationState, event: ev.ImageAttested | ev.KeyTrusted | ev.Revoked, recorded: Recorded
) -> InstallationState:
    actor, at = recorded.actor, recorded.at
    match event:
        case ev.ImageAttested():
            signed = (*state.attested.get(event.image, ()), Attested(key=event.key, at=at, commit=event.commit))
            return replace(state, attested=_with(state.attested, event.image, signed))
        case ev.KeyTrusted():
            key = TrustedKey(id=event.key, pem=event.pem, actor=actor, at=at, signs=event.signs)
            return replace(state, keys=_with(state.keys, event.key, key))
        case ev.Revoked():
            if event.name in state.revoked:
                return state
            revocation = Revocation(actor=actor, at=at, reason=event.reason)
            return replace(state, revoked=_with(state.revoked, event.name, revocation))
