"""The use case that compares: two images, two environments, or one environment at two times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anyio import to_thread

from stelae.controller import references, views
from stelae.controller.inside import Inside, without_files
from stelae.controller.past import Past
from stelae.controller.record import Record
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import InvalidInput, StelaeError
from stelae.domain.image import Image
from stelae.domain.release import Release
from stelae.domain.state import Deployment, EnvironmentState, InstallationState
from stelae.domain.units import Instant
from stelae.ledger.history.index import History
from stelae.spec import render

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """What is compared; ``env`` is None of an image or a release that stands for itself."""

    image: Image
    release: Release | None
    env: EnvironmentState | None = None
    state: InstallationState
    at: Instant | None = None


class Comparing:
    """Compares by the record and by what is inside."""

    def __init__(self, record: Record, past: Past, history: History, inside: Inside) -> None:
        self._record = record
        self._past = past
        self._history = history
        self._inside = inside

    async def diff(self, old: str, new: str) -> Json:
        """See ``Service.diff``."""
        one, other = await to_thread.run_sync(lambda: (self._side(old), self._side(new)))
        pair = (one.image, one.release), (other.image, other.release)
        try:
            found = {**await self._inside.compare(*pair), "unknown": ""}
        except (StelaeError, OSError) as error:
            if one.at is None and other.at is None:
                raise  # of what is deployed now everything is here
            found = {**without_files(*pair), "unknown": str(error)}
        return {**found, "environments": _environments(one, other)}

    def _side(self, ref: str) -> _Side:
        name, _, when = ref.partition("@")
        if "/" not in name or not when:
            image, release = self._inside.resolve(ref)
            state = self._record.state
            env = references.environment(state, EnvironmentId(ref)) if "/" in ref else None
            return _Side(image=image, release=release, env=env, state=state)
        references.environment(self._record.state, name)
        then = self._past.moment(when)
        state = self._history.state(then.size, [name])
        env = state.environments.get(EnvironmentId(name))
        if env is None or env.stable is None:
            raise InvalidInput(f"{name} ran nothing then", hint=f"see: stelae history {name}")
        release = env.releases[env.stable]
        image = references.image(state, release.image).image
        return _Side(image=image, release=release, env=env, state=state, at=then.at)


def _environments(old: _Side, new: _Side) -> Json | None:
    """Return what differs between two environments besides what is inside; None when they are not two."""
    if old.env is None or new.env is None:
        return None
    changes = render.changes(old.env.config, new.env.config)
    processes = {*old.env.wanted, *new.env.wanted}
    between = []
    if old.env.id == new.env.id:
        between = [*_since(old.env, new.env), *_since(new.env, old.env)]
    return {
        "old": _end(old), "new": _end(new),
        "config": [{"path": item.path, "old": item.old, "new": item.new} for item in changes],
        "instances": [
            {"process": name, "old": _count(old.env, name), "new": _count(new.env, name)}
            for name in sorted(processes)
            if _count(old.env, name) != _count(new.env, name)
        ],
        "deployments": [
            {
                "deployment": one.id, "kind": one.kind, "actor": one.actor, "requested_at": one.requested_at,
                "release": one.release, "outcome": one.outcome or "",
            }
            for one in between
        ],
    }  # fmt: skip


def _since(before: EnvironmentState, after: EnvironmentState) -> list[Deployment]:
    """Return the deployments that were asked for, or ended, from *before* to *after*."""
    known = before.deployments
    return [
        one
        for one in after.deployments.values()
        if one.id not in known or (known[one.id].outcome is None and one.outcome is not None)
    ]


def _end(side: _Side) -> Json:
    assert side.env is not None
    row = views.environment_at(side.state, side.env)
    names = ("release", "image", "disk", "commit", "subject", "deployed_by", "deployed_at", "state")
    return {"environment": side.env.id, "at": side.at, **{name: row[name] for name in names}}


def _count(env: EnvironmentState, process: str) -> int:
    return 0 if env.down else env.wanted.get(process, 0)
