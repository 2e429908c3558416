"""References: what a person types (a unique prefix) to the thing that it names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from stelae.domain.allocation import InstanceId
from stelae.domain.digest import Digest
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import InvalidInput
from stelae.domain.release import Release
from stelae.domain.state import BuiltImage, Deployment, EnvironmentState, InstallationState, Instance

_COMMIT = re.compile(r"[0-9a-f]{4,64}")


def environment(state: InstallationState, name: str) -> EnvironmentState:
    """Return the applied environment called ``app/env``; raises InvalidInput naming those that exist."""
    found = state.environments.get(EnvironmentId(name))
    if found is None or found.config is None:
        known = sorted(env.id for env in state.environments.values() if env.config)
        raise InvalidInput(
            f"no environment {name!r}",
            hint=(f"known: {', '.join(known)}\n" if known else "") + "make it with: stelae env apply",
        )
    return found


def image(state: InstallationState, ref: str) -> BuiltImage:
    """Return the image whose digest starts with *ref* (with or without ``sha256:``)."""
    wanted = ref if ref.startswith("sha256:") else f"sha256:{ref}"
    return state.images[Digest(_one("image", ref, [d for d in state.images if d.startswith(wanted)]))]


def disk(state: InstallationState, ref: str) -> Digest:
    """Return the digest of the disk whose digest starts with *ref* (with or without ``sha256:``)."""
    wanted = ref if ref.startswith("sha256:") else f"sha256:{ref}"
    return Digest(_one("disk", ref, [digest for digest in state.disks if digest.startswith(wanted)]))


def artifact(state: InstallationState, ref: str) -> Digest:
    """Return the digest of the image or the disk whose digest starts with *ref* (with or without ``sha256:``)."""
    wanted = ref if ref.startswith("sha256:") else f"sha256:{ref}"
    return Digest(_one("image", ref, [name for name in (*state.images, *state.disks) if name.startswith(wanted)]))


def as_disk(state: InstallationState, ref: str) -> Digest | None:
    """Return the digest of the disk that *ref* names, None where it names something else, or nothing."""
    wanted = ref if ref.startswith("sha256:") else f"sha256:{ref}"
    found = [name for name in (*state.images, *state.disks) if name.startswith(wanted)]
    return found[0] if len(found) == 1 and found[0] in state.disks else None


def release(env: EnvironmentState, ref: str) -> Release:
    """Return the release of *env* whose id starts with *ref*."""
    wanted = ref if ref.startswith("r-") else f"r-{ref}"
    name = _one(f"release of {env.id}", ref, [r for r in env.releases if r.startswith(wanted)])
    return next(found for key, found in env.releases.items() if key == name)


def instance(state: InstallationState, ref: str) -> tuple[EnvironmentState, Instance]:
    """Return the instance with the id *ref* (``app/env/id`` where several environments have it), and its environment;
    also one that has ended and is not removed yet."""
    place, _, name = ref.rpartition("/")
    found = [
        (env, env.instances[InstanceId(name)])
        for env in state.environments.values()
        if InstanceId(name) in env.instances and place in ("", env.id)
    ]
    if not found:
        raise InvalidInput(f"no instance {ref!r} is there", hint="stelae state lists those that run")
    if len(found) > 1:
        names = tuple(f"{env.id}/{name}" for env, _ in found)
        raise InvalidInput(f"{ref!r} names {len(found)} instances", hint="give APP/ENV/INSTANCE", details=names)
    return found[0]


def of(state: InstallationState, ref: str) -> tuple[set[str], set[str], set[str]]:
    """Return the releases, the images and the commits that *ref*, a release, an image, a disk or a commit, stands
    for: of a commit its images too, of these the releases, and of a disk its own. Raises InvalidInput."""
    if ref.startswith("r-"):
        found = [item for env in state.environments.values() for item in env.releases.values()]
        name = _one("release", ref, {item.id for item in found if item.id.startswith(ref)})
        return {name}, {item.image for item in found if item.id == name}, set()
    commits = {
        source.commit for built in state.images.values() for source in built.sources if source.commit.startswith(ref)
    }
    if _COMMIT.fullmatch(ref) and commits:
        built_of = [one for one in state.images.values() if any(source.commit in commits for source in one.sources)]
        images = {str(one.image.digest) for one in built_of}
    elif (disk := as_disk(state, ref)) is not None:
        return _of_disk(state, disk)
    else:
        commits, images = set(), {str(image(state, ref).image.digest)}
    releases = {
        str(item.id) for env in state.environments.values() for item in env.releases.values() if item.image in images
    }
    return releases, images, commits


def _of_disk(state: InstallationState, digest: Digest) -> tuple[set[str], set[str], set[str]]:
    found = [item for env in state.environments.values() for item in env.releases.values() if item.disk == digest]
    return {str(item.id) for item in found}, {str(state.disks[digest].disk.image)}, set()


def deployment(state: InstallationState, ref: str) -> tuple[EnvironmentState, Deployment]:
    """Return the deployment with the id *ref*, and its environment."""
    for env in state.environments.values():
        found = env.deployments.get(ref)
        if found is not None:
            return env, found
    raise InvalidInput(f"no deployment {ref!r}", hint="stelae history lists them")


def _one(what: str, ref: str, found: Iterable[str]) -> str:
    names = sorted(found)
    if not names:
        raise InvalidInput(f"no {what} {ref!r}", hint="stelae history lists what there is")
    if len(names) > 1:
        raise InvalidInput(
            f"{ref!r} names {len(names)} of them", hint="give more characters", details=tuple(names[:5])
        )
    return names[0]
