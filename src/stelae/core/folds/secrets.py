"""Folds of secrets: which versions there are, and which of them were taken back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stelae.core.folds.table import folds
from stelae.core.owned import with_item
from stelae.domain import event as ev
from stelae.domain.secret import SecretVersion
from stelae.domain.state import EnvironmentState
from stelae.domain.trust import Revocation
from stelae.domain.units import Instant


@folds(ev.SecretSet)
def _set(env: EnvironmentState, event: ev.SecretSet, at: Instant, actor: str) -> EnvironmentState:
    new = SecretVersion(version=event.version, file=event.file, actor=actor, at=at)
    versions = (*env.secrets.get(event.name, ()), new)
    return replace(env, secrets=with_item(env.secrets, event.name, versions))


@folds(ev.SecretRevoked)
def _revoked(env: EnvironmentState, event: ev.SecretRevoked, at: Instant, actor: str) -> EnvironmentState:
    return _changed(env, event, revoked=Revocation(actor=actor, at=at, reason=event.reason))


@folds(ev.SecretWiped)
def _wiped(env: EnvironmentState, event: ev.SecretWiped, at: Instant, actor: str) -> EnvironmentState:
    return _changed(env, event, wiped=True)


def _changed(env: EnvironmentState, event: ev.SecretRevoked | ev.SecretWiped, **values: Any) -> EnvironmentState:
    versions = tuple(
        replace(item, **values) if item.version == event.version else item for item in env.secrets.get(event.name, ())
    )
    return replace(env, secrets=with_item(env.secrets, event.name, versions)) if versions else env
