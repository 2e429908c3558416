"""What a request to move an environment comes to: its release, its strategy, and what policy says. Pure.

Who asks for a deployment or a rollback, and who only plans one, gets the same answers from here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from stelae.core import disks, secrets, trust, verification
from stelae.core.held import boots
from stelae.core.traffic import entry
from stelae.domain.digest import Digest, short
from stelae.domain.environment import Environment, environment_id
from stelae.domain.errors import Conflict, InvalidInput, Refused
from stelae.domain.image import Image
from stelae.domain.release import Release, ReleaseId, short_release
from stelae.domain.state import EnvironmentState, InstallationState, Outcome, Phase
from stelae.domain.strategy import Gate, Strategy, StrategyKind
from stelae.domain.units import Instant


def config(env: EnvironmentState) -> Environment:
    """Return what was applied; an environment that a request names was."""
    assert env.config is not None
    return env.config


def release_of(env: EnvironmentState, image: Image, disk: Digest | None = None) -> Release:
    """Return *image*, or its *disk* where machines boot one, joined with the settings of *env* and the newest
    versions of its secrets; raises InvalidInput for an image that cannot run there, and for a secret without a value.
    """
    of = config(env)
    if image.app != of.app:
        raise InvalidInput(f"image {short(image.digest)} is of the app {image.app!r}, not {of.app!r}")
    missing = [name for name in env.wanted if all(process.name != name for process in image.processes)]
    if missing:
        raise InvalidInput(
            f"image {short(image.digest)} has no process {missing[0]!r}, which {env.id} runs",
            hint="take it out of the environment (stelae env apply), or deploy an image that has it",
        )
    return Release(
        app=of.app, environment=of.name, image=image.digest,
        settings=dict(of.settings), processes=image.processes, jobs=image.jobs,
        secrets=secrets.chosen(env), secret_env=of.secret_env, disk=disk,
    )  # fmt: skip


Rule = Callable[[], None]
"""What may speak against a request; it raises why."""


def rules(
    state: InstallationState, env: EnvironmentState, release: Release, now: Instant, *, vouched: bool = False
) -> tuple[Rule, ...]:
    """Return what raises Refused when the image of *release*, its disk or a secret in it was revoked, it is not of
    the form that *env* starts, or the policy of *env* does not let it in at *now*: one after the other, for who wants
    to know all that speaks against it. *vouched*: a controller that counts says that it was verified where it has to
    come from."""
    return (
        partial(trust.admit_release, state, release),
        partial(secrets.admit, env, release),
        partial(disks.fits, state, env, release),
        partial(_comes_from, state, env, release, now, vouched=vouched),
    )


def _comes_from(
    state: InstallationState, env: EnvironmentState, release: Release, now: Instant, *, vouched: bool
) -> None:
    of = config(env)
    if not of.promote_from:
        return
    built = state.images.get(release.image)
    name = short(release.image)
    if built is not None and built.sources and not any(source.versioned for source in built.sources):
        raise Refused(
            f"image {name} was built from a tree with changes that no commit holds; {env.id} takes only commits",
            hint="commit, deploy the commit, and promote that image",
        )
    origin = state.environments.get(environment_id(of.app, of.promote_from))
    found = verification.standing(origin, release.artifact, now)
    if found.verification is not None or vouched:
        return
    if origin is not None and origin.config is not None:
        same_form(origin, env)
    raise unverified(of.promote_from, release, found)


def admit_more(state: InstallationState, env: EnvironmentState, wanted: Mapping[str, int]) -> None:
    """Raise Refused when with *wanted* more instances of a release would be started, in whose stead nothing ends, and
    its image or a secret in it was revoked: of the one that serves, or of the one that is to."""
    rollout = env.rollout
    comes = rollout.candidate if rollout is not None and rollout.phase is not Phase.REVERTING else None
    for name in (env.stable, comes):
        release = env.releases[name] if name is not None else None
        if release is not None and _grows(env, release, wanted):
            trust.admit_release(state, release)
            secrets.admit(env, release)


def _grows(env: EnvironmentState, release: Release, wanted: Mapping[str, int]) -> bool:
    more = (name for name, count in wanted.items() if count > env.wanted.get(name, 0))
    return any(release.process(name) is not None for name in more)


def same_form(origin: EnvironmentState, env: EnvironmentState) -> None:
    """Raise Refused when machines boot disks in one of *origin* and *env*, and the other runs images: what was
    verified in one form says nothing of the other."""
    if boots(origin) is boots(env):
        return
    what = "runs images, and no disk is verified by that" if boots(env) else "boots disks, and verifies no image"
    kind = "of virtual machines" if boots(env) else "that runs images"
    raise Refused(
        f"refused by policy: {origin.id} {what}, which is what {env.id} takes",
        hint=f"let promote_from name an environment {kind}: stelae env apply",
    )


def unverified(origin: str, release: Release, found: verification.Standing) -> Refused:
    """Return why the image of *release*, or its disk where it has one, does not count as verified in *origin*."""
    name = f"image {short(release.image)}"
    if release.disk is not None:
        name = f"disk {short(release.disk)} of {name}"
    what = f"{name} was {found.why} in {origin}"
    if found.why != verification.NEVER:
        what = f"in {origin}, {name} is {found.why}"
    hint = f"deploy it there first: stelae deploy {origin} --image {release.image}"
    if found.left is not None:
        hint = f"it is verified when nothing goes wrong in {origin} until then; see stelae status {origin}"
    return Refused(f"refused by policy: {what}", hint=hint)


_BEFORE: Final = {Phase.WAITING: "waits to be let in", Phase.PREPARING: "preparing", Phase.REVERTING: "going back"}
"""Where a rollout is that is at no step."""


def free(env: EnvironmentState) -> None:
    """Raise Conflict when a rollout holds *env*."""
    rollout = env.rollout
    if rollout is None:
        return
    _, _, name = env.id.partition("/")
    where = _BEFORE.get(rollout.phase) or f"{rollout.strategy.kind} step {rollout.step + 1}"
    raise Conflict(
        f"busy: deployment {rollout.deployment} ({short_release(rollout.candidate)}, by {rollout.actor}, "
        f"{where}) holds {env.id}",
        hint=f"watch it: stelae status {name} --watch · replace it: --supersede · stop it: stelae abort {name}",
    )


def strategy(env: EnvironmentState, kind: str) -> Strategy:
    """Return how a deployment moves: as the environment says, but by *kind* where one is named."""
    usual = config(env).strategy
    if not kind:
        return usual
    known = [item.value for item in StrategyKind]
    if kind not in known:
        raise InvalidInput(f"no strategy {kind!r}", hint=f"one of {', '.join(known)}")
    if usual.kind == kind:
        return usual
    if kind == StrategyKind.CANARY:
        raise InvalidInput(f"{env.id} has no steps of a canary", hint="give them in its strategy: stelae env apply")
    other = replace(
        _whole(usual), kind=StrategyKind(kind), gate=usual.gate, analysis=usual.analysis, checks=usual.checks,
    )  # fmt: skip
    # Nothing of the old release is left to decide for when a recreate has begun.
    return replace(other, gate=Gate(soak=usual.gate.soak)) if kind == StrategyKind.RECREATE else other


def quick(env: EnvironmentState) -> Strategy:
    """Return how a rollback moves: everything at once, without soak or gate, and no overlap where there must be
    none."""
    usual = config(env).strategy
    kind = usual.kind if usual.kind is StrategyKind.RECREATE else StrategyKind.BLUE_GREEN
    return replace(_whole(usual), kind=kind, min_healthy=0)


def _whole(usual: Strategy) -> Strategy:
    """Return *usual* without all that a person decides by, and without a share for some of the users."""
    return replace(usual, gate=Gate(), steps=(), preview="", matches=(), sticky=False, analysis=None, checks=())


def fits(strategy: Strategy, release: Release) -> None:
    """Raise InvalidInput when *release* lacks what *strategy* decides by."""
    image = short(release.image)
    needs = "canary" if strategy.kind is StrategyKind.CANARY else ""
    needs = needs or ("preview" if strategy.preview else "") or ("abort_on" if strategy.analysis else "")
    if needs and entry(release) is None:
        raise InvalidInput(
            f"image {image} has no process that takes requests, which {needs} of the strategy is about",
            hint="take another strategy for it: --strategy rolling",
        )
    jobs = {gate.job for gate in (strategy.gate, *(step.gate for step in strategy.steps)) if gate.job}
    missing = sorted(jobs - {job.name for job in release.jobs})
    if missing:
        raise InvalidInput(
            f"image {image} has no job {missing[0]!r}, for which a step of the strategy waits",
            hint="deploy an image that has it, or take it out of the strategy (stelae env apply)",
        )


def ways_back(env: EnvironmentState) -> list[ReleaseId]:
    """Return what a rollback could go to, the last good one first: the stable release while a rollout is under way,
    then those that were stable before it."""
    names = [name for name in reversed(env.stables) if name != env.stable]
    if env.rollout is not None and env.stable is not None:
        names.insert(0, env.stable)
    return names


def served(env: EnvironmentState, release: Release) -> None:
    """Raise Refused when *release* was never stable in *env*: a way back skips approvals, freezes and gates, so it
    leads only to what came in by them before."""
    ended_well = (done.release for done in env.deployments.values() if done.outcome is Outcome.SUCCEEDED)
    if release.id == env.stable or release.id in ended_well:
        return
    _, _, name = env.id.partition("/")
    raise Refused(
        f"{short_release(release.id)} never served in {env.id}, so nothing leads back to it",
        hint=f"deploy it: stelae deploy {name} --release {short_release(release.id)}",
    )


def last_good(env: EnvironmentState, banned: Collection[Digest] = ()) -> Release:
    """Return the stable release while a rollout is under way, else the one that was stable before it; never one of
    an image or a disk that is *banned*, or with a secret that was revoked."""
    names = ways_back(env)
    for name in names:
        release = env.releases[name]
        if release.image in banned or release.artifact in banned:
            continue
        if not secrets.revocation(env, release):
            return release
    if names:
        secret = next(filter(None, (secrets.revocation(env, env.releases[name]) for name in names)), "")
        if secret:
            raise Refused(
                f"no earlier release of {env.id} may come back: {secret}",
                hint=secrets.instead(env, env.releases[names[0]].image),
            )
        raise Refused(
            f"every earlier release of {env.id} is of an image or a disk that was revoked",
            hint="deploy another image",
        )
    raise InvalidInput(f"{env.id} has no earlier release to go back to", hint="stelae history shows what ran")
