"""Use cases of secrets: give one a value, list them, take a version back; and their values for who launches.

A value is in the store before the record says that there is one, so what is recorded can always be read. A revoked
version is removed from the store as soon as nothing that runs needs it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import Callable, Collection
from typing import Any, Protocol

import structlog

from stelae.controller import references
from stelae.controller.record import Record
from stelae.controller.secret_store import LARGEST, Label
from stelae.core import phases, secrets
from stelae.domain import event as ev
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Failed, InvalidInput, StelaeError
from stelae.domain.release import Release
from stelae.domain.secret import SecretVersion
from stelae.domain.state import EnvironmentState, Phase
from stelae.platforms.port import SecretSource

Json = dict[str, Any]
log = structlog.get_logger(__name__)

AFTER_FAILURE = 60.0
"""Seconds after which what could not be removed is tried again."""


class Store(Protocol):
    """Where values are kept; see ``stelae.controller.secret_store``."""

    def put(self, label: Label, value: bytes) -> str:
        """Keep *value* and return the name of its file."""

    def get(self, label: Label, name: str) -> bytes:
        """Return the value in the file *name*."""

    def wipe(self, name: str) -> None:
        """Remove the file *name*."""

    def clean(self, known: Collection[str]) -> int:
        """Remove the files that are none of *known* and not young."""


class Recorded(SecretSource):
    """The values of the versions that are in the record."""

    def __init__(self, record: Record, store: Store) -> None:
        self._record = record
        self._store = store

    def read(self, environment: EnvironmentId, name: str, version: int) -> bytes:
        """See ``SecretSource.read``."""
        env = self._record.environment(environment)
        found = secrets.version_of(env, name, version) if env is not None else None
        why = "it was never set" if found is None else ""
        if found is not None and found.wiped:
            why = f"it was revoked {found.revoked}, and removed"
        if found is None or why:
            raise Failed(f"secret {name} version {version} cannot be read: {why}")
        return self._store.get(Label(environment=environment, name=name, version=version), found.file)


class Secrets:
    """The secrets of environments, with their values in *store*."""

    def __init__(self, record: Record, store: Store) -> None:
        self._record = record
        self._store = store
        self._turn = asyncio.Lock()
        self.source = Recorded(record, store)

    async def set_secret(self, actor: str, request: Json) -> Json:
        """See ``Service.set_secret``."""
        name, found = request["name"], references.environment(self._record.state, request["environment"])
        value = _value(request["value"])
        async with self._turn:
            env = references.environment(self._record.state, found.id)
            _check_text(env, name, value)
            newest = secrets.newest(env, name)
            if newest is not None and await self._has(env, name, newest, value):
                return _set(env, name, newest.version, new=False)
            if not self._record.ledger.room():
                raise Failed("the disk is nearly full; nothing was changed", hint="make room: stelae gc")
            label = Label(environment=env.id, name=name, version=len(env.secrets.get(name, ())) + 1)
            file = await asyncio.to_thread(self._store.put, label, value)
            event = ev.SecretSet(name=name, version=label.version, file=file)
            try:
                await self._record.append([event], actor=actor, environment=env.id, urgent=False)
            except StelaeError:  # then nothing was recorded
                await asyncio.to_thread(self._store.wipe, file)
                raise
        return _set(env, name, label.version, new=True)

    async def _has(self, env: EnvironmentState, name: str, version: SecretVersion, value: bytes) -> bool:
        """Say whether *version* is *value*; what cannot be read is not."""
        try:
            kept = await asyncio.to_thread(self.source.read, env.id, name, version.version)
        except Failed:
            return False
        return hmac.compare_digest(kept, value)

    async def list_secrets(self, environment: str) -> Json:
        """See ``Service.secrets``."""
        env = references.environment(self._record.state, environment)
        listed = env.config.secrets if env.config else ()
        names = [*listed, *sorted(set(env.secrets) - set(listed))]
        return {"environment": env.id, "secrets": [_secret(env, name) for name in names]}

    async def revoke(self, actor: str, request: Json) -> Json:
        """See ``Service.revoke_secret``. A deployment under way of a release that has it goes back."""
        found = references.environment(self._record.state, request["environment"])
        name, number, reason = request["name"], request["version"], request["reason"]
        if not reason.strip():
            raise InvalidInput("why is it revoked?", hint="give --reason; it is kept in the record")

        def events() -> list[ev.Event]:
            env = references.environment(self._record.state, found.id)
            version = secrets.version_of(env, name, number)
            _, _, short = env.id.partition("/")
            if version is None:
                what = f"no version {number}" if name in env.secrets else "no value"
                raise InvalidInput(f"secret {name} of {env.id} has {what}", hint=f"see: stelae secret list {short}")
            if version.revoked is not None:
                raise Conflict(f"version {number} of {name} was revoked before {version.revoked}")
            why = f"version {number} of the secret {name} was revoked by {actor}: {reason}"
            return [ev.SecretRevoked(name=name, version=number, reason=reason), *_going_back(env, name, number, why)]

        await self._record.append(events, actor=actor, environment=found.id)
        await self._wipe()
        env = references.environment(self._record.state, found.id)
        after = secrets.version_of(env, name, number)
        running = [release for release in secrets.users(env, name, number) if release in secrets.held(env)]
        return {
            "environment": env.id, "name": name, "version": number, "releases": running,
            "wiped": after is not None and after.wiped, "image": _image(env),
        }  # fmt: skip

    async def keep(self) -> None:
        """Remove what a crash left, and each revoked value as soon as nothing needs it, until cancelled."""
        await self._quietly(self._clean)
        while True:
            size = self._record.state.size
            if await self._quietly(self._wipe):
                await self._record.changed(size)
            else:
                await asyncio.sleep(AFTER_FAILURE)

    async def _quietly(self, work: Callable[[], Any]) -> bool:
        try:
            await work()
        except StelaeError as error:
            log.warning("secrets.not_removed", problem=str(error))
            return False
        return True

    async def _clean(self) -> None:
        every = [all_ for env in self._record.state.environments.values() for all_ in env.secrets.values()]
        known = {item.file for all_ in every for item in all_ if not item.wiped}
        async with self._turn:
            self._record.check_mine()
            await asyncio.to_thread(self._store.clean, frozenset(known))

    async def _wipe(self) -> None:
        """Remove the revoked values that nothing needs, and record it. A version that was revoked is never deployed
        again, so nothing can come to need it meanwhile."""
        for env in list(self._record.state.environments.values()):
            for name, item in secrets.wipeable(env):
                self._record.check_mine()  # what another controller launches is not known here
                await asyncio.to_thread(self._store.wipe, item.file)
                await self._record.append(_wiped(self._record, env.id, name, item), environment=env.id)


def _wiped(record: Record, name: EnvironmentId, secret: str, item: SecretVersion) -> Callable[[], list[ev.Event]]:
    def events() -> list[ev.Event]:
        found = secrets.version_of(record.state.environments[name], secret, item.version)
        return [] if found is None or found.wiped else [ev.SecretWiped(name=secret, version=item.version)]

    return events


def _going_back(env: EnvironmentState, name: str, version: int, why: str) -> list[ev.Event]:
    """End a deployment of what was revoked, where what it came from is better."""
    rollout = env.rollout
    if rollout is None or rollout.phase is Phase.REVERTING or rollout.candidate == rollout.stable:
        return []
    stable: Release | None = env.releases.get(rollout.stable) if rollout.stable else None
    if env.releases[rollout.candidate].secrets.get(name) != version:
        return []
    if stable is not None and stable.secrets.get(name) == version:
        return []
    return [phases.called_off(env, rollout, why)]


def _value(text: str) -> bytes:
    """Return the value that is *text* in base64; raises InvalidInput that shows nothing of it."""
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise InvalidInput("the value is not base64", where="request") from None
    if not 1 <= len(value) <= LARGEST:
        raise InvalidInput(
            f"a secret of {len(value)} bytes" if value else "an empty secret", hint=f"1 to {LARGEST} bytes"
        )
    return value


def _check_text(env: EnvironmentState, name: str, value: bytes) -> None:
    """Raise InvalidInput where *value* should be an environment variable and is no text."""
    if env.config is None or name not in env.config.secret_env:
        return
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InvalidInput(
            f"{name} is an environment variable of {env.id}, and this is no text",
            hint=f"let the app read /run/secrets/{name}, and take it out of secret_env",
        ) from None


def _set(env: EnvironmentState, name: str, version: int, *, new: bool) -> Json:
    listed = env.config is not None and name in env.config.secrets
    return {
        "environment": env.id, "name": name, "version": version, "new": new, "listed": listed, "image": _image(env),
    }  # fmt: skip


def _image(env: EnvironmentState) -> str:
    return env.releases[env.stable].image if env.stable else ""


def _secret(env: EnvironmentState, name: str) -> Json:
    held = secrets.held(env)
    versions = []
    for item in env.secrets.get(name, ()):
        users = secrets.users(env, name, item.version)
        back = item.revoked
        versions.append({
            "version": item.version, "by": item.actor, "at": item.at, "wiped": item.wiped,
            "revoked": {"by": back.actor, "at": back.at, "reason": back.reason} if back else None,
            "releases": list(users), "held": any(release in held for release in users),
        })  # fmt: skip
    return {
        "name": name, "listed": env.config is not None and name in env.config.secrets,
        "variable": env.config is not None and name in env.config.secret_env, "versions": versions,
    }  # fmt: skip
