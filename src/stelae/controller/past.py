"""Use cases that ask the past: what was at a time, what happened, and the life of what is not there any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import structlog
from anyio import to_thread

from stelae.controller import moments, references, views
from stelae.controller.following import Pace, follow
from stelae.controller.moments import Moment
from stelae.controller.observed import Observed
from stelae.controller.queries import Queries
from stelae.controller.record import Record
from stelae.controller.sentences import matters, sentence
from stelae.domain.errors import InvalidInput
from stelae.domain.event import DeploymentApproved, DeploymentRequested, DriftFound, Recorded, RequestRefused
from stelae.domain.state import InstallationState
from stelae.domain.units import Instant
from stelae.ledger.history.about import instance, named
from stelae.ledger.history.follow import Lived
from stelae.ledger.history.index import History

Json = dict[str, Any]
log = structlog.get_logger(__name__)

PACE = Pace(step=0.005, rest=1.0, again=30.0)
"""The index is made slowly: what else the controller has to do comes first."""

PAGE = 1_000
WINDOW = 50_000

LAST = 20
"""So many of the last things that a person did are told."""


class Past:
    """Answers from the record by the index of history."""

    def __init__(
        self, record: Record, queries: Queries, history: History, observed: Observed, clock: Callable[[], Instant]
    ) -> None:
        self._record = record
        self._queries = queries
        self._history = history
        self._observed = observed
        self._clock = clock

    async def keep_indexing(self) -> None:
        """Make the index go on with the record, until cancelled. What goes wrong is logged, and disturbs nobody."""
        told = ""
        async for problem in follow(self._record, self._history.step, PACE):
            if problem:
                log.warning("history.not_indexed", problem=problem)
            elif self._history.distrusted != told:
                told = self._history.distrusted
                log.warning("history.made_anew", why=told)

    def close(self) -> None:
        """Close the index."""
        self._history.close()

    async def state(self, moment: str, environment: str) -> Json:
        """See ``Service.state``."""

        def look() -> Json:
            then = self.moment(moment)
            names = [environment] if environment else None
            state = self._history.state(then.size, names)
            chosen = [env for env in state.environments.values() if environment in ("", env.id) and env.config]
            if environment and not chosen:
                references.environment(self._record.state, environment)
            rows = []
            for env in chosen:
                row = views.environment_at(state, env)
                by = row["deployment"]
                row["event"] = moments.requested(self._record.ledger, self._history, state, by) if by else None
                row["observed"] = self._observed.environment(env, then.at, then.size)
                rows.append(row)
            return {"at": then.at, "index": then.size, "environments": rows}

        return await to_thread.run_sync(look)

    def moment(self, text: str) -> Moment:
        """Return the place in the record that *text* means; see ``moments.moment``."""
        return moments.moment(self._record.ledger, self._history, self._record.state, text)

    async def history(self, request: Json) -> Json:
        """See ``Service.history``."""
        environment = request["environment"]
        if environment:
            references.environment(self._record.state, environment)

        def read() -> Json:
            ledger = self._record.ledger
            start = self._start(request["since"])
            end = self.moment(request["until"]).size if request["until"] else ledger.size
            groups = [self.names(request["of"])] if request["of"] else []
            if request["by"]:
                groups.append([named("p", request["by"])])
            if environment:
                groups.append([named("e", environment)])
            found: list[Recorded] = []
            for item in self._backwards(groups, start, end):
                if request["everything"] or request["of"] or matters(item.event):
                    found.append(item)
                if len(found) == request["limit"]:
                    break
            return {"events": [event_view(item) for item in reversed(found)]}

        return await to_thread.run_sync(read)

    def _start(self, since: str) -> int:
        """Return the index of the first event from *since* on, an event that it names included."""
        if not since:
            return 0
        then = self.moment(since)
        return self._record.ledger.index_at(then.at - 1) if since.isdecimal() else then.size - 1

    def _backwards(self, groups: list[list[str]], start: int, end: int) -> Iterator[Recorded]:
        """Yield the events from *start* to before *end* that are about a name of each group, the newest first."""
        if not groups:
            for high in range(end, start, -PAGE):
                yield from reversed(list(self._record.ledger.read(max(start, high - PAGE), high)))
            return
        for high in range(end, start, -WINDOW):
            low = max(start, high - WINDOW)
            chosen = set(self._history.events(groups[0], low, high))
            for group in groups[1:]:
                chosen &= set(self._history.events(group, low, high))
            for index in sorted(chosen, reverse=True):
                yield from self._record.ledger.read(index, index + 1)

    def names(self, ref: str) -> list[str]:
        """Return the names of all that *ref* (a deployment, release, image, commit, instance or person) is found by:
        a commit's images, an image's releases and a release's deployments among them."""
        state = self._record.state
        if ref.startswith("d-"):
            references.deployment(state, ref)
            return [named("d", ref)]
        instances = [instance(lived.environment, ref) for lived in self._history.named(ref)]
        if instances:
            return instances
        if self._history.knows(named("p", ref)):
            return [named("p", ref)]
        releases, images, commits = references.of(state, ref)
        disk = None if commits else references.as_disk(state, ref)
        images = {disk} if disk is not None else images
        found = [named("r", name) for name in releases]
        if not ref.startswith("r-"):
            found += [named("c", name) for name in commits] + [named("m", name) for name in images]
        for env in state.environments.values():
            found += [named("d", one.id) for one in env.deployments.values() if one.release in releases]
        return found

    async def show(self, ref: str) -> Json:
        """See ``Service.show``."""
        if not ref.startswith(("d-", "r-")) and "/" not in ref:
            known = await to_thread.run_sync(lambda: self._instance(ref) or self._person(ref))
            if known is not None:
                return known
        found = await self._queries.show(ref)
        if found["kind"] in ("release", "image", "commit"):
            found["ever"] = await to_thread.run_sync(lambda: self._ever(found[found["kind"]]))
        if found["kind"] == "deployment":
            found["event"] = await to_thread.run_sync(
                lambda: moments.requested(self._record.ledger, self._history, self._record.state, ref)
            )
        return found

    def _instance(self, name: str) -> Json | None:
        lives = [item for item in self._history.named(name) if not item.life.run]
        if not lives:
            return None
        if len(lives) > 1:
            where = tuple(item.environment for item in lives)
            raise InvalidInput(f"{name!r} names {len(lives)} instances", hint="see: stelae history", details=where)
        (lived,) = lives
        return {"kind": "instance", "instance": name, **self.life_view(lived), "drift": self._drift_of(lived)}

    def _drift_of(self, lived: Lived) -> list[Json]:
        """Return what was ever found to differ of an instance, with the evidence and the event that has it."""
        found = []
        for index in self._history.events([instance(lived.environment, lived.life.id)], lived.launched):
            [item] = self._record.ledger.read(index, index + 1)
            if isinstance(item.event, DriftFound):
                found.append({
                    "event": index, "at": item.at, "drift": item.event.drift.value, "what": item.event.what,
                    "evidence": list(item.event.evidence),
                })  # fmt: skip
        return found

    def life_view(self, lived: Lived, watched: Any = None) -> Json:
        """Return a life, and in which of it there was a look; *watched* are the watches of that time, if known."""
        life, state = lived.life, self._record.state
        release = state.environments[lived.environment].releases.get(life.release)
        built = state.images.get(release.image) if release else None
        until = self._clock()
        if watched is None:
            watched = self._observed.watched(lived.environment, life.launched_at, life.over_at or until)
        return {
            "environment": lived.environment, "process": life.process, "run": life.run, "node": life.node,
            "release": life.release,
            "image": release.image if release else "",
            "commit": built.sources[-1].commit if built and built.sources else "",
            "launched_at": life.launched_at, "started_at": life.started_at, "first_ready_at": life.first_ready_at,
            "routed_at": life.routed_at, "drained_at": life.drained_at, "stopped_at": life.stopped_at,
            "killed_at": life.killed_at, "ended_at": life.ended_at, "removed_at": life.removed_at,
            "ready": life.ready, "exit": str(life.exit) if life.exit else "", "failed": life.failed,
            "events": {"launched": lived.launched, "removed": lived.over},
            **self._observed.life(lived.environment, life, watched, until),
        }  # fmt: skip

    def _person(self, name: str) -> Json | None:
        indexes = self._history.events([named("p", name)])
        if not indexes:
            return None
        ledger = self._record.ledger
        items = [item for index in indexes[-PAGE:] for item in ledger.read(index, index + 1)]
        first = next(iter(ledger.read(indexes[0], indexes[0] + 1)))
        asked = [item for item in items if isinstance(item.event, DeploymentRequested)]
        approved = [item for item in items if isinstance(item.event, DeploymentApproved)]
        refused = [item for item in items if isinstance(item.event, RequestRefused)]
        return {
            "kind": "person", "person": name, "events": len(indexes), "first_at": first.at, "last_at": items[-1].at,
            "counts": dict(sorted(Counter(item.event.kind for item in items).items())),
            "asked": [event_view(item) for item in asked[-LAST:]],
            "approved": [event_view(item) for item in approved[-LAST:]],
            "refused": [event_view(item) for item in refused[-LAST:]],
            "last": [event_view(item) for item in items[-LAST:]],
        }  # fmt: skip

    def _ever(self, ref: str) -> Json:
        """How many instances ever ran it, and when."""
        return ever(self._record.state, self._history, *references.of(self._record.state, ref)[:2])


def ever(state: InstallationState, history: History, releases: Iterable[str], images: Iterable[str]) -> Json:
    """Return how many instances were ever launched from *releases*, of *images*, how many run, and when."""
    wanted = set(releases)
    lives = [item for item in history.lives(images) if item.life.release in wanted]
    running = [item for item in lives if item.life.over_at is None and not item.life.failed]
    return {
        "instances": len(lives), "running": len(running),
        "first_at": lives[0].life.launched_at if lives else None,
        "last_at": max((item.life.over_at or 0 for item in lives), default=None) if lives and not running else None,
    }  # fmt: skip


def event_view(item: Recorded) -> Json:
    """Return an event in words."""
    return {
        "index": item.index, "at": item.at, "actor": item.actor, "environment": item.environment,
        "kind": item.event.kind, "text": sentence(item.event),
    }  # fmt: skip
