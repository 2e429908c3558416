"""Use cases that follow what was built to where it runs or ran: commits, images, releases, packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anyio import to_thread

from stelae.attest.contents import Inspector
from stelae.controller import references
from stelae.controller.observed import Observed
from stelae.controller.past import Past
from stelae.controller.record import Record
from stelae.domain.digest import Digest
from stelae.domain.errors import InvalidInput, StelaeError
from stelae.domain.state import InstallationState
from stelae.domain.units import Instant
from stelae.ledger.history.follow import Lived
from stelae.ledger.history.index import History

Json = dict[str, Any]


class Whereabouts:
    """Answers where something runs now, or ever ran."""

    def __init__(
        self, record: Record, past: Past, history: History, observed: Observed, inspector: Inspector,
        clock: Callable[[], Instant],
    ) -> None:  # fmt: skip
        self._record = record
        self._past = past
        self._history = history
        self._observed = observed
        self._inspector = inspector
        self._clock = clock

    async def where(self, ref: str, everywhere: bool) -> Json:
        """See ``Service.where``."""
        return await to_thread.run_sync(lambda: self._where(ref, everywhere))

    def _where(self, ref: str, everywhere: bool) -> Json:
        state = self._record.state
        versions: dict[str, list[str]] = {}
        unknown: list[str] = []
        try:
            releases, images, commits = references.of(state, ref)
            form = "image" if references.as_disk(state, ref) is None else "disk"
            kind = "release" if ref.startswith("r-") else "commit" if commits else form
        except InvalidInput:
            kind = "package"
            versions, unknown = self._containing(state, *_package(ref))
            if not versions and not unknown:
                raise
            images = set(versions)
            releases = _releases_of(state, images)
        return {
            "ref": ref, "kind": kind, "images": sorted(images), "ever": everywhere,
            "releases": _releases(state, releases, versions),
            "instances": self._instances(images, releases, everywhere=everywhere),
            "unknown": sorted(unknown),
        }  # fmt: skip

    def _instances(self, images: set[str], releases: set[str], *, everywhere: bool) -> list[Json]:
        """Return the lives that are asked for, the oldest first."""
        chosen = [
            item
            for item in self._history.lives(images)
            if item.life.release in releases and (everywhere or _runs(item))
        ]
        watched: dict[str, Any] = {}
        until = self._clock()
        for name in {item.environment for item in chosen}:
            of = [item.life for item in chosen if item.environment == name]
            since = min(life.launched_at for life in of)
            end = max(life.over_at if life.over_at is not None else until for life in of)
            watched[name] = self._observed.watched(name, since, end)
        return [
            {"instance": item.life.id, **self._past.life_view(item, watched[item.environment])} for item in chosen
        ]

    def _containing(
        self, state: InstallationState, name: str, version: str
    ) -> tuple[dict[str, list[str]], list[str]]:
        """Return the images that contain a package, with its versions, and those that cannot be looked into."""
        found: dict[str, list[str]] = {}
        unknown: list[str] = []
        for digest in state.images:
            try:
                packages = self._inspector.contents(Digest(digest)).packages
            except (StelaeError, OSError):
                unknown.append(digest)
                continue
            versions = sorted({item.version for item in packages if item.name == name})
            if version in ("", *versions) and versions:
                found[digest] = [version] if version else versions
        return found, unknown


def _package(ref: str) -> tuple[str, str]:
    name, _, version = ref.partition("=")
    return name, version.removeprefix("=")


def _runs(item: Lived) -> bool:
    return item.life.over_at is None and not item.life.failed


def _releases_of(state: InstallationState, images: set[str]) -> set[str]:
    envs = state.environments.values()
    return {str(item.id) for env in envs for item in env.releases.values() if item.image in images}


def _releases(state: InstallationState, releases: set[str], versions: dict[str, list[str]]) -> list[Json]:
    return [
        {
            "release": item.id, "environment": env.id, "image": item.image, "disk": item.disk or "",
            "stable": env.stable == item.id, "versions": versions.get(item.image, []),
            "deployments": [one.id for one in env.deployments.values() if one.release == item.id],
        }
        for env in state.environments.values()
        for item in env.releases.values()
        if item.id in releases
    ]  # fmt: skip
