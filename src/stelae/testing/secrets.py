"""Secrets of a simulated world: a store that outlives controllers, what is drawn of them, and their laws."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from stelae.controller.secret_store import Label
from stelae.core import secrets
from stelae.domain import event as ev
from stelae.domain.errors import Failed
from stelae.domain.release import Release
from stelae.domain.state import EnvironmentState
from stelae.testing.chance import drawn

if TYPE_CHECKING:
    from stelae.testing.life import Step

NAMES = ("PASSWORD", "KEY")


def said_of(release: Release, values: Mapping[str, bytes]) -> list[str]:
    """Return the lines in which a program that tells of its secrets, which are *values*, does so: one for each file,
    and one for each of them that is an environment variable."""
    files = [f"{name} {len(value)} {sha256(value).hexdigest()}" for name, value in sorted(values.items())]
    return files + [f"{name}={sha256(values[name]).hexdigest()}" for name in release.secret_env if name in values]


class MemoryStore:
    """Keeps values as ``stelae.controller.secret_store`` does, named in turn. ``known`` also has what was wiped."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}
        self.kept: set[str] = set()

    def put(self, label: Label, value: bytes) -> str:
        """See ``SecretStore.put``."""
        name = f"{len(self.known):032x}"
        self.known[name] = value
        self.kept.add(name)
        return name

    def get(self, label: Label, name: str) -> bytes:
        """See ``SecretStore.get``."""
        if name not in self.kept:
            raise Failed(f"secret {label.name} version {label.version} cannot be read: its file is gone")
        return self.known[name]

    def wipe(self, name: str) -> None:
        """See ``SecretStore.wipe``."""
        self.kept.discard(name)

    def clean(self, known: Collection[str]) -> int:
        """See ``SecretStore.clean``: what a crash left is always young here."""
        return 0


def with_secrets(seed: str, steps: Sequence[Step], environments: Sequence[str], step: type[Step]) -> tuple[Step, ...]:
    """Return *steps*, in half of the lives with secrets: environments name some, and they are set, rotated and
    revoked in between. Drawn apart, so that everything else in a life is what it would be without them."""
    chance = drawn(seed, "secrets")
    if chance.random() < 0.5:
        return tuple(steps)
    names = chance.choice((NAMES[:1], NAMES))
    made = [step(what="secret", args=_value(chance, env, name), wait=0.01) for env in environments for name in names]
    first, done = True, []
    for item in steps:
        if item.what == "apply":
            named = names if first or chance.random() < 0.8 else ()
            item = replace(item, args={**item.args, "secrets": named})
        elif first:  # once there are environments
            done += made
            first = False
        done.append(item)
        if not first and chance.random() < 0.4:
            done.append(_later(chance, chance.choice(environments), chance.choice(names), step))
    return tuple(done)


def _later(chance: random.Random, env: str, name: str, step: type[Step]) -> Step:
    wait = chance.choice((0, 0.1, 3))
    if chance.random() < 0.7:
        return step(what="secret", args=_value(chance, env, name), wait=wait)
    return step(what="revoke-secret", args={"env": env, "name": name, "back": chance.choice((0, 1, 1, 2))}, wait=wait)


def _value(chance: random.Random, env: str, name: str) -> dict[str, Any]:
    return {"env": env, "name": name, "value": chance.randrange(4)}


def delivered(env: EnvironmentState, release: Release, got: Mapping[str, bytes], store: MemoryStore) -> str:
    """Say which law an instance of *release* breaks that was given the values *got*, "" for none."""
    versions = {name: secrets.version_of(env, name, number) for name, number in release.secrets.items()}
    wanted = {name: store.known[found.file] for name, found in versions.items() if found is not None}
    if dict(got) != wanted:
        return f"law 2: an instance of {release.id} has other secrets than its release: {dict(got)} for {wanted}"
    return ""


def requested(env: EnvironmentState, release: Release) -> str:
    """Say which law the request for *release* breaks, "" for none."""
    for name, number in release.secrets.items():
        found = secrets.version_of(env, name, number)
        if found is None or found.revoked is not None:
            return f"law 7: {release.id} is deployed with version {number} of {name}, which was revoked"
    return ""


def wiped(env: EnvironmentState, event: ev.SecretWiped) -> str:
    """Say which law it breaks that a value was removed while something needs it, "" for none."""
    names = {instance.release for instance in env.instances.values()}
    names |= {env.rollout.candidate} if env.rollout is not None else set()
    names |= {env.stable} if env.stable is not None else set()
    for name in names:
        if env.releases[name].secrets.get(event.name) == event.version:
            return f"law 7: version {event.version} of {event.name} was removed, and {name} needs it"
    return ""
