"""How fast the past is asked: the state of a fleet at any time, one instance, what ran an image; beside a full fold.

Run: ``python -m bench.history [FOLDER] [--events N] [--instances N] [--environments N] [--fold]``. The record is made
of deployments that replace every instance of an environment, one environment after the other, watched every 10 min.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from bench.figure import Row, Section

from stelae.core import fold
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import Allocation, Holding, InstanceId
from stelae.domain.digest import digest_of
from stelae.domain.environment import Environment, EnvironmentId, environment_id
from stelae.domain.event import Event
from stelae.domain.image import Image, Source
from stelae.domain.observation import Exit
from stelae.domain.process import Health, Probe, Process
from stelae.domain.release import Release, short_release
from stelae.domain.state import DeploymentKind, InstallationState, Outcome
from stelae.domain.strategy import Strategy
from stelae.domain.units import MINUTE, SECOND, Instant
from stelae.ledger.history.index import History
from stelae.ledger.store import Draft, Ledger

BEGINNING: Instant = 1_790_000_000 * SECOND
ASKED = 200
MOST_FLEET, MOST_ONE = 100.0, 5.0
WEB = Process(name="web", command=("web",), port=8000, health=Health(probe=Probe.HTTP))
MS = 1000


class Fleet:
    """Environments of as many instances each, which are deployed to one after the other."""

    def __init__(self, environments: int, instances: int) -> None:
        self._count = instances // environments
        self._configs = [
            Environment(app="shop", name=f"e{number}", processes={"web": self._count}, strategy=Strategy())
            for number in range(environments)
        ]
        self._numbers = [0] * environments
        self._running: list[list[InstanceId]] = [[] for _ in range(environments)]
        self._stable: list[Release | None] = [None] * environments

    def events(self) -> Iterator[tuple[Event, str, EnvironmentId]]:
        """Yield events for ever, with who made them and where."""
        for place, config in enumerate(self._configs):
            yield ev.EnvironmentApplied(environment=config), "ana", config.id
            yield from self._deployment(place, 0)
        number = 0
        chance = random.Random(1)
        while True:
            number += 1
            yield from self._deployment(chance.randrange(len(self._configs)), number)

    def _deployment(self, place: int, number: int) -> Iterator[tuple[Event, str, EnvironmentId]]:
        config = self._configs[place]
        name = environment_id("shop", config.name)
        image = Image(digest=digest_of(b"image %d" % (number // 3)), app="shop", processes=(WEB,), layers=(), size=1)
        source = Source(commit=f"{number // 3:040x}", subject="a change")
        release = Release(
            app="shop", environment=config.name, image=image.digest, settings={"N": str(number)}, processes=(WEB,)
        )
        deployment = f"d-{place}-{number}"
        yield ev.ImageBuilt(image=image, source=source), "ana", EnvironmentId("")
        asked = ev.DeploymentRequested(
            deployment=deployment, deployment_kind=DeploymentKind.DEPLOY, release=release, strategy=config.strategy
        )
        for event in (asked, *self._replaced(place, release)):
            yield event, "ana" if event is asked else "controller", name
        yield ev.RolloutEnded(deployment=deployment, outcome=Outcome.SUCCEEDED), "controller", name
        watch = ev.EnvironmentWatched(since=0, until=1, looks=120, phases={"ready": self._count}, state="0" * 64)
        yield watch, "controller", name

    def _replaced(self, place: int, release: Release) -> Iterator[Event]:
        old, self._running[place] = self._running[place], []
        short = short_release(release.id).removeprefix("r-")
        held = Allocation(holdings=(Holding(release=release.id, process="web", serving=self._count),))
        yield ev.AllocationSet(allocation=held)
        for batch in range(0, self._count, 25):
            new = [InstanceId(f"web-{short}-{n + 1}") for n in range(batch, min(batch + 25, self._count))]
            gone, old = old[: len(new)], old[len(new) :]
            for one in new:
                yield from self._done(
                    place, Action(verb=Verb.LAUNCH, instance=one, release=release.id, process="web")
                )
            for one in new:
                yield ev.InstanceReady(instance=one)
            self._running[place] += new
            table = dict.fromkeys([*self._running[place], *old], 100)
            yield from self._done(place, Action(verb=Verb.ROUTE, table=table))
            for one in gone:
                yield from self._done(place, Action(verb=Verb.STOP, instance=one))
                yield ev.InstanceExited(instance=one, exit=Exit(code=0, at=0))
                yield from self._done(place, Action(verb=Verb.REMOVE, instance=one))

    def _done(self, place: int, action: Action) -> Iterator[Event]:
        self._numbers[place] += 1
        yield ev.ActionIntended(action=replace(action, number=self._numbers[place]))
        yield ev.ActionDone(number=self._numbers[place])


def write(ledger: Ledger, fleet: Fleet, count: int, clock: list[Instant]) -> None:
    """Record *count* events, some time apart."""
    stream = fleet.events()
    while ledger.size < count:
        clock[0] += MINUTE
        drafts = [
            Draft(event=event, actor=actor, environment=where)
            for event, actor, where in islice(stream, min(1_000, count - ledger.size))
        ]
        ledger.append(drafts)


def measure(folder: Path, events: int, environments: int, instances: int, *, whole: bool) -> Section:
    """Measure on the disk of *folder*."""
    clock = [BEGINNING]
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-history-") as place:
        ledger = Ledger.open(Path(place) / "ledger.db", clock=lambda: clock[0])
        write(ledger, Fleet(environments, instances), events, clock)
        index = Path(place) / "history"
        history = History(ledger, index, Path(place) / "key")
        built = _timed(lambda: _all(history)) * MS
        chance = random.Random(2)
        last = history.state(ledger.size)
        sizes = [chance.randrange(ledger.size // 10, ledger.size) for _ in range(ASKED)]
        fleet = [_timed(lambda n=n: history.state(n)) * MS for n in sizes]
        name = next(iter(last.environments))
        one = [_timed(lambda n=n: history.state(n, [name])) * MS for n in sizes]
        single = [_timed(lambda n=n: _one(history, last, chance, n)) * MS for n in sizes]
        images = [chance.choice(list(last.images)) for _ in range(ASKED)]
        ever = [_timed(lambda i=i: history.lives([i])) * MS for i in images]
        bytes_of, record = history.size_on_disk(), (Path(place) / "ledger.db").stat().st_size
        history.close()
        opened = _timed(lambda: History(ledger, index, Path(place) / "key").state(0)) * MS
        folded = [_timed(lambda: fold.apply_all(InstallationState(), ledger.read())) * MS] if whole else []
        there = sum(len(env.instances) for env in last.environments.values())
        ledger.close()
    rows = [
        *_percentiles("state of the whole fleet at any index", fleet, MOST_FLEET),
        *_percentiles("state of one of its environments", one, None),
        *_percentiles("one instance at any index", single, MOST_ONE),
        *_percentiles("every instance ever started from an image", ever, None),
        Row(name="making the index, all events", samples=[built]),
        Row(name="checking it when a controller starts", samples=[opened]),
        *([Row(name="a fold of the whole record, for comparison", samples=folded)] if folded else []),
    ]
    text = (
        f"{events} events of {environments} environments with {there} instances; {ASKED} questions each. The "
        f"index has {bytes_of / 1e6:.0f} MB, the record {record / 1e6:.0f} MB."
    )
    return Section(title="Asking the past", text=text, rows=rows, ratios=False)


def _one(history: History, last: InstallationState, chance: random.Random, size: int) -> object:
    env = chance.choice(list(last.environments.values()))
    return history.life(env.id, chance.choice(list(env.instances)), size)


def _percentiles(name: str, samples: list[float], goal: float | None) -> list[Row]:
    ordered = sorted(samples)
    at = {"p50": ordered[len(ordered) // 2], "p99": ordered[len(ordered) * 99 // 100]}
    return [Row(name=f"{name}, {which}", samples=[value], goal=goal) for which, value in at.items()]


def _all(history: History) -> None:
    while history.step():
        pass


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="measure how fast the past is asked")
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--environments", type=int, default=100)
    parser.add_argument("--fold", action="store_true", help="fold the whole record too")
    options = parser.parse_args()
    print(
        measure(
            options.folder, options.events, options.environments, options.instances, whole=options.fold
        ).markdown()
    )
