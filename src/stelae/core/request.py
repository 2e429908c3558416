"""What a request to move an environment comes to: its release, its strategy, and what policy says. Pure.

Who asks for a deployment or a rollback, and who only plans one, gets the same answers from here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from stelae.core import secrets, trust
from stelae.domain.digest import Digest, short
from stelae.domain.environment import Environment, environment_id
from stelae.domain.errors import Conflict, InvalidInput, Refused
from stelae.domain.image import Image
from stelae.domain.release import Release, short_release
from stelae.domain.state import EnvironmentState, InstallationState
from stelae.domain.strategy import Strategy, StrategyKind


def config(env: EnvironmentState) -> Environment:
    """Return what was applied; an environment that a request names was."""
    assert env.config is not None
    return env.config


def release_of(env: EnvironmentState, image: Image) -> Release:
    """Return *image* joined with the settings of *env* and the newest versions of its secrets; raises InvalidInput for
    an image that cannot run there, and for a secret without a value."""
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
        secrets=secrets.chosen(env), secret_env=of.secret_env,
    )  # fmt: skip


def admit(state: InstallationState, env: EnvironmentState, release: Release) -> None:
    """Raise Refused when the image of *release* or a secret in it was revoked, or the policy of *env* does not let it
    in."""
    trust.admit(state, release.image)
    secrets.admit(env, release)
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
    verified = state.environments.get(environment_id(of.app, of.promote_from))
    if verified is None or release.image not in verified.verified:
        raise Refused(
            f"refused by policy: image {name} was never verified in {of.promote_from}",
            hint=f"deploy it there first: stelae deploy {of.promote_from} --image {release.image}",
        )


def free(env: EnvironmentState) -> None:
    """Raise Conflict when a rollout holds *env*."""
    rollout = env.rollout
    if rollout is None:
        return
    _, _, name = env.id.partition("/")
    raise Conflict(
        f"busy: deployment {rollout.deployment} ({short_release(rollout.candidate)}, by {rollout.actor}, "
        f"{rollout.strategy.kind} step {rollout.step + 1}) holds {env.id}",
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
    return replace(usual, kind=StrategyKind(kind))


def quick(env: EnvironmentState) -> Strategy:
    """Return how a rollback moves: everything at once, without soak, and no overlap where there must be none."""
    usual = config(env).strategy
    kind = usual.kind if usual.kind is StrategyKind.RECREATE else StrategyKind.BLUE_GREEN
    return replace(usual, kind=kind, min_healthy=0)


def last_good(env: EnvironmentState, banned: Collection[Digest] = ()) -> Release:
    """Return the stable release while a rollout is under way, else the one that was stable before it; never one of
    an image that is *banned*, or with a secret that was revoked."""
    names = [name for name in reversed(env.stables) if name != env.stable]
    if env.rollout is not None and env.stable is not None:
        names.insert(0, env.stable)
    for name in names:
        if env.releases[name].image not in banned and not secrets.revocation(env, env.releases[name]):
            return env.releases[name]
    if names:
        secret = next(filter(None, (secrets.revocation(env, env.releases[name]) for name in names)), "")
        if secret:
            raise Refused(
                f"no earlier release of {env.id} may come back: {secret}", hint=secrets.instead(env, env.releases[names[0]].image)
            )
        raise Refused(
            f"every earlier release of {env.id} is of an image that was revoked", hint="deploy another image"
        )
    raise InvalidInput(f"{env.id} has no earlier release to go back to", hint="stelae history shows what ran")
