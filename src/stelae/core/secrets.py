"""Which version of a secret a release has, and what a revoked version means. Pure.

A release names versions, so it has the same values for as long as it exists. A new deployment takes the newest
version that was not revoked; a way back takes what the release has, or is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from stelae.domain.digest import Digest
from stelae.domain.errors import InvalidInput, Refused
from stelae.domain.release import Release, ReleaseId, short_release
from stelae.domain.secret import SecretVersion
from stelae.domain.state import EnvironmentState


def version_of(env: EnvironmentState, name: str, version: int) -> SecretVersion | None:
    """Return version *version* of the secret *name*, None when there is none."""
    return next((item for item in env.secrets.get(name, ()) if item.version == version), None)


def newest(env: EnvironmentState, name: str) -> SecretVersion | None:
    """Return the newest version of *name* that was not revoked, None when there is none."""
    return next((item for item in reversed(env.secrets.get(name, ())) if item.revoked is None), None)


def chosen(env: EnvironmentState) -> dict[str, int]:
    """Return the versions that a new release of *env* has; raises InvalidInput for a name that has no value."""
    names = env.config.secrets if env.config is not None else ()
    found = {name: newest(env, name) for name in names}
    _, _, of = env.id.partition("/")
    for name, version in found.items():
        if version is None:
            why = "every version of it was revoked" if env.secrets.get(name) else "it was never set"
            raise InvalidInput(
                f"{env.id} has no value for the secret {name}: {why}", hint=f"stelae secret set {of} {name}"
            )
    return {name: version.version for name, version in found.items() if version is not None}


def revocation(env: EnvironmentState, release: Release) -> str:
    """Return why *release* may not be deployed in *env* any more, for a secret in it; an empty text when it may."""
    for name, number in sorted(release.secrets.items()):
        version = version_of(env, name, number)
        if version is not None and version.revoked is not None:
            of = short_release(release.id)
            return f"version {number} of the secret {name}, which {of} has, was revoked {version.revoked}"
    return ""


def admit(env: EnvironmentState, release: Release) -> None:
    """Raise Refused when *release* has a version of a secret that was revoked."""
    why = revocation(env, release)
    if why:
        raise Refused(why, hint=instead(env, release.image))


def instead(env: EnvironmentState, image: Digest) -> str:
    """Return how *image* is deployed with the newest versions."""
    _, _, name = env.id.partition("/")
    return f"deploy the image with the newest versions: stelae deploy {name} --image {image}"


def users(env: EnvironmentState, name: str, version: int) -> list[ReleaseId]:
    """Return the releases that have this version, in the order in which they were deployed first."""
    return [key for key, release in env.releases.items() if release.secrets.get(name) == version]


def held(env: EnvironmentState) -> frozenset[ReleaseId]:
    """Return the releases of which *env* has instances, or may have to launch one without anybody asking for it. The
    stable one is always among them: also where it was taken down, a deployment that fails comes back to it."""
    names = {instance.release for instance in env.instances.values()} | set(env.warm)
    names |= {action.release for action in env.pending.values() if action.release}
    if env.rollout is not None:
        names.add(env.rollout.candidate)
    if env.stable is not None:
        names.add(env.stable)
    return frozenset(names)


def wipeable(env: EnvironmentState) -> Iterator[tuple[str, SecretVersion]]:
    """Yield the names and the revoked versions whose values nothing needs any more, and that are still kept."""
    revoked = [(name, item) for name, all_ in env.secrets.items() for item in all_ if item.revoked and not item.wiped]
    if not revoked:
        return
    needed = {pair for name in held(env) if name in env.releases for pair in env.releases[name].secrets.items()}
    yield from ((name, item) for name, item in revoked if (name, item.version) not in needed)


def differences(old: Release | None, new: Release) -> dict[str, tuple[int, int]]:
    """Return the versions that differ by name, old and new; 0 is none."""
    before = old.secrets if old is not None else {}
    names = sorted({*before, *new.secrets})
    pairs = {name: (before.get(name, 0), new.secrets.get(name, 0)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
