"""The index of history: the state of everything at any index, the lives of instances, and what an event is about.

It is made from the record, in steps of ``STEP`` events, each checked against its hash; whatever is asked of the time
since the last whole step is folded from the record itself. It can be deleted at any time, and is made again when it
is not believed: because it is damaged or was changed, is of another record, or of another version of Stelae.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from stelae.core import fold
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.state import EnvironmentState, InstallationState
from stelae.ledger.history.about import instance, named
from stelae.ledger.history.follow import Following, Lived
from stelae.ledger.history.making import LIVES_OF, Making


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: a state is tens of thousands of new objects, none of them in a cycle, and the
    looking takes longer than making them."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class History(Making):
    """Answers from the index. Every answer takes in the whole record first, as it is now."""

    def step(self) -> bool:
        """Take in the next whole step of the record; say whether there is another. Raises Failed when the file cannot
        be written."""
        return self._tried(self._step, whole=False)

    def state(self, size: int, environments: Iterable[str] | None = None) -> InstallationState:
        """Return the state after the first *size* events: what a fold of them gives, of these *environments* only
        when they are given. Raises Failed for an event that was changed."""
        chosen = None if environments is None else {EnvironmentId(name) for name in environments}
        with _uncollected():
            return self._tried(lambda: self._state_at(size, chosen))

    def life(self, environment: str, name: str, size: int | None = None) -> Lived | None:
        """Return the life of one instance, or run, as it was after the first *size* events (now: None)."""
        return self._tried(lambda: self._life_at(environment, name, size))

    def lives(self, images: Iterable[str]) -> list[Lived]:
        """Return the lives of all instances and runs ever launched from any of *images*, oldest first."""
        wanted = set(images)
        return self._tried(lambda: self._lives_of(wanted))

    def named(self, name: str) -> list[Lived]:
        """Return the lives of all instances called *name*, in whatever environment."""
        return [found for env in self._tried(self._environments) if (found := self.life(env, name)) is not None]

    def _environments(self) -> list[str]:
        """All environments that there ever was an event of."""
        new = [name.removeprefix("e:") for name in self._tail()[1] if name.startswith("e:")]
        return list(dict.fromkeys([*self._state.environments, *new]))

    def events(self, names: Iterable[str], start: int = 0, end: int | None = None) -> list[int]:
        """Return the indexes, in order, of the events from *start* to before *end* that are about any of *names* (see
        ``about``)."""
        wanted = list(names)
        stop = self._ledger.size if end is None else min(end, self._ledger.size)
        return self._tried(lambda: self._found(wanted, start, stop))

    def knows(self, name: str) -> bool:
        """True when any event is about *name*."""
        return self._tried(lambda: self._name(name) is not None or name in self._tail()[1])

    def _state_at(self, size: int, chosen: set[EnvironmentId] | None) -> InstallationState:
        steps = min(size // self.each, self._steps)
        state = self._compose(steps, chosen)
        rest = (
            item
            for item in self._ledger.read(steps * self.each, size)
            if chosen is None or not item.environment or item.environment in chosen
        )
        return replace(fold.apply_all(state, rest), size=size)

    def _tail(self) -> tuple[Following, dict[str, list[int]]]:
        """What came after the last whole step: the lives with it, and the indexes by name."""
        place = (self._steps, self._ledger.size)
        if self._kept is None or self._kept[0] != place:
            following = self._following.copy()
            names: dict[str, list[int]] = {}
            for item in self._ledger.read(self._steps * self.each, place[1]):
                for name in following.take(item):
                    names.setdefault(name, []).append(item.index)
            self._kept = place, (following, names)
        kept: tuple[Following, dict[str, list[int]]] = self._kept[1]
        return kept

    def _found(self, wanted: list[str], start: int, stop: int) -> list[int]:
        found: set[int] = set()
        tail = self._tail()[1]
        for name in wanted:
            number = self._name(name)
            if number is not None:
                sql = "SELECT step, places FROM post WHERE name = ? AND step BETWEEN ? AND ?"
                for step, places in self._opened().select(sql, (number, start // self.each, stop // self.each)):
                    found.update(step * self.each + place for place in places)
            found.update(tail.get(name, ()))
        return sorted(index for index in found if start <= index < stop)

    def _lives_of(self, images: set[str]) -> list[Lived]:
        found: dict[tuple[EnvironmentId, int], Lived] = {}
        for image in images:
            number = self._name(named("m", image))
            if number is not None:
                for item in self._decoded(self._opened().select(LIVES_OF.format("image = ?"), (number,))):
                    found[item.environment, item.launched] = item
        now: dict[EnvironmentId, EnvironmentState] = {}
        for item in self._tail()[0].changed.values():
            if self._image(item, now) in images:
                found[item.environment, item.launched] = item
        return sorted(found.values(), key=lambda item: item.launched)

    def _image(self, item: Lived, now: dict[EnvironmentId, EnvironmentState]) -> str:
        """Return the image of the release of *item*, "" when it has none. It may have been asked for since the last
        whole step: *now* keeps the environments that were folded up to the end for that."""
        name = item.environment
        env = self._state.environments.get(name)
        if env is None or item.life.release not in env.releases:
            if name not in now:
                now[name] = self._state_at(self._ledger.size, {name}).environments[name]
            env = now[name]
        release = env.releases.get(item.life.release)
        return release.image if release else ""

    def _life_at(self, environment: str, name: str, size: int | None) -> Lived | None:
        end = self._ledger.size if size is None else size
        following = Following()
        last: Lived | None = None
        for index in self._found([instance(environment, name)], 0, end):
            (item,) = self._ledger.read(index, index + 1)
            following.take(item)
            last = following.changed.get((EnvironmentId(environment), InstanceId(name)), last)
        return last
