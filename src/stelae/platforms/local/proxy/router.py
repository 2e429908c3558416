"""The router of the embedded platform: HAProxy, driven over its runtime socket, never reloaded in normal operation.

An act writes the files first and tells the workers then, and is over when a worker showed that it holds the table.
Every act compares before it changes, so it can be done again, and a worker that lost its memory is put right by it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import anyio

from stelae.domain.allocation import InstanceId, Route
from stelae.domain.drift import Drift, Finding
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Unreachable
from stelae.platforms.local.proxy.counts import Kept, read_kept, show, token_of, total
from stelae.platforms.local.proxy.inspection import Looks, of_environment, told_by
from stelae.platforms.local.proxy.launch import (
    SupervisorStatus,
    WorkerStatus,
    ensure_supervisor,
    layout_of,
    reload_workers,
    supervisor_status,
)
from stelae.platforms.local.proxy.layout import backend_name, server_name
from stelae.platforms.local.proxy.runtime import SHOW_MAPS, Answer, ask, show_backends, total_sessions
from stelae.platforms.local.proxy.store import Store
from stelae.platforms.local.proxy.sync import differences
from stelae.platforms.local.proxy.table import (
    BACKENDS,
    SLOTS,
    Slot,
    Table,
    check_entries,
    check_routes,
    forgotten,
    routed,
)
from stelae.platforms.port import RouteEntry, RouterView
from stelae.system.installation import Installation

_PATIENCE = 3.0  # seconds: a worker that was killed is back long before
_START_PATIENCE = 20.0  # seconds: a machine that boots is slow, and what starts the controller again is no quicker
_POLL = 0.01
_FRESH = 1.0  # seconds that a look at the whole proxy may be old: each environment is inspected, one after the other
_AGAIN = 0.05


class HaproxyRouter:
    """A ``Router``. *backends* and *slots* are the sizes that a new table starts with; the table keeps its own.

    Safe to use from several tasks at once. Nothing is touched before the first act.
    """

    def __init__(
        self, installation: Installation, *, backends: int = BACKENDS, slots: int = SLOTS, cgroup: str = ""
    ) -> None:
        self._installation = installation
        self._layout = layout_of(installation)
        self._store = Store(self._layout, backends=backends, slots=slots)
        self._cgroup = cgroup
        self._lock = threading.Lock()
        self._known: set[int] = set()  # generations that were compared as a whole
        self._unsettled: set[EnvironmentId] = set()  # whose last act has not come to its end
        self._looks = Looks(self._layout, self._store)

    async def start(self) -> None:
        """Have the proxy run and hold the table; raises Failed when it cannot listen, Unreachable otherwise."""
        await anyio.to_thread.run_sync(self._start)

    async def route(
        self, environment: EnvironmentId, entries: Sequence[RouteEntry], hosts: Sequence[str],
        routes: Sequence[Route] = (),
    ) -> None:  # fmt: skip
        """See ``Router.route``. Raises InvalidInput for an entry, host or route that cannot be, Conflict for a host
        of another environment, Unreachable when the proxy does not show the table; the act can be repeated."""
        names, ways = check_entries(entries, hosts), check_routes(routes)
        await anyio.to_thread.run_sync(self._route, environment, entries, names, ways)

    async def observe(self, environment: EnvironmentId) -> RouterView:
        """See ``Router.observe``; connections and counts are summed over all workers. Raises Unreachable."""
        return await anyio.to_thread.run_sync(self._observe, environment)

    async def forget(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """See ``Router.forget``; the slot is given away again when nothing is open to it any more."""
        await anyio.to_thread.run_sync(self._forget, environment, instance)

    async def inspect(self, environment: EnvironmentId, *, thorough: bool = False) -> tuple[Finding, ...]:
        """See ``Router.inspect``; raises Unreachable."""
        return await anyio.to_thread.run_sync(self._inspect, environment, 0 if thorough else _FRESH)

    def check(self) -> list[str]:
        """Return what differs between the table, its files and every worker, a sentence each; raises Unreachable."""
        with self._lock:
            table = self._store.table()
            found = self._store.differences()
            status = supervisor_status(self._layout)
            if status is None:
                return [*found, "the proxy's supervisor does not run"]
            if status.problem:
                found.append(f"HAProxy: {status.problem}")
            for worker, answer in self._ask_all([*show_backends(range(len(table.backends))), *SHOW_MAPS]):
                compared = differences(table, range(len(table.backends)), answer)
                sentences = compared.leaks if worker.retired else compared.sentences
                found.extend(f"worker {worker.generation}: {sentence}" for sentence in sentences)
            return found

    def _start(self) -> None:
        with self._lock:
            table = self._store.table()
            self._store.save(table)
            self._sync(table, range(len(table.backends)), _START_PATIENCE)

    def _route(
        self, environment: EnvironmentId, entries: Sequence[RouteEntry], hosts: tuple[str, ...],
        routes: tuple[Route, ...],
    ) -> None:  # fmt: skip
        with self._lock:
            before = self._store.table()
            self._store.save(before)
            after = routed(before, environment, entries, hosts, lambda number: self._busy(before, number), routes)
            self._change(environment, before, after)

    def _forget(self, environment: EnvironmentId, instance: InstanceId) -> None:
        with self._lock:
            before = self._store.table()
            self._change(environment, before, forgotten(before, environment, instance))

    def _change(self, environment: EnvironmentId, before: Table, after: Table) -> None:
        """Make *after* the table, of the same backends but those of *environment*."""
        self._unsettled.add(environment)
        self._store.save(after)
        self._sync(after, _numbers(environment, before, after), _PATIENCE)
        self._unsettled.discard(environment)

    def _inspect(self, environment: EnvironmentId, seconds: float) -> tuple[Finding, ...]:
        """Return what two looks, a moment apart, both show; the first is at most so many *seconds* old."""
        first = self._look(environment, seconds)
        if not first:
            return ()
        time.sleep(_AGAIN)
        second = self._look(environment, 0)
        return tuple(
            Finding(kind=Drift.ROUTING, what=sentence, evidence=second[sentence])
            for sentence in sorted(first.keys() & second.keys())
        )

    def _look(self, environment: EnvironmentId, seconds: float) -> Mapping[str, tuple[str, ...]]:
        with self._lock:
            if not self._known or environment in self._unsettled:  # an act that is repeated puts it right
                return {}
            table = self._store.table()
            tells = told_by(table) == environment and not self._unsettled
            return of_environment(self._looks.all(table, seconds), environment, tells=tells)

    def _observe(self, environment: EnvironmentId) -> RouterView:
        with self._lock:
            table = self._store.table()
            numbers = table.all_of(environment)
            if not numbers:
                return RouterView(table={}, connections={})
            there = {slot.release for _, _, slot in _slots(table, numbers) if slot.release}
            tokens = {release: token_of(environment, release) for release in sorted(there)}
            answers, kept = self._ask_and_keep(numbers, tokens.values())
        open_now = total_sessions(answer for _, answer in answers)
        current = [answer for worker, answer in answers if not worker.retired]
        weights: dict[InstanceId, int] = {}
        connections: dict[InstanceId, int] = {}
        for number, n, slot in _slots(table, numbers):
            key = (backend_name(number), server_name(n))
            connections[slot.instance] = connections.get(slot.instance, 0) + open_now.get(key, 0)
            for answer in current:
                server = answer.servers.get(key)
                if server and server.eligible and server.weight and server.address == slot.address:
                    weight = 0 if table.backends[number].release else server.weight
                    weights[slot.instance] = max(weight, weights.get(slot.instance, 0))
        counted = [answer.counts for worker, answer in answers if worker.generation not in kept.ended]
        return RouterView(table=weights, connections=connections, traffic=total(counted, kept, tokens))

    def _ask_and_keep(
        self, numbers: Collection[int], tokens: Collection[str]
    ) -> tuple[list[tuple[WorkerStatus, Answer]], Kept]:
        """Return what the workers show and what was kept of those that ended, of one and the same counting."""
        kept = read_kept(self._layout.kept)
        while True:
            answers = self._ask_all([*show_backends(numbers, sessions=True), *show(tokens)])
            before, kept = kept, read_kept(self._layout.kept)
            if kept.began == before.began:
                return answers, kept

    def _busy(self, table: Table, number: int) -> Collection[int]:
        """Return the slots of a backend that something is still open to."""
        if number >= len(table.backends):
            return ()
        name = backend_name(number)
        total = total_sessions(answer for _, answer in self._ask_all(show_backends([number], sessions=True)))
        return {n for n in range(len(table.backends[number].slots)) if total.get((name, server_name(n)))}

    def _sync(self, table: Table, numbers: Collection[int], patience: float) -> None:
        """Make every worker hold the table: these backends, and all of them in a worker that is new to us."""
        deadline = time.monotonic() + patience
        while True:
            try:
                workers = self._workers()
                problems = [line for worker in workers for line in self._sync_worker(worker, table, numbers)]
            except OSError as error:
                problems = [str(error)]
            if not problems:
                self._known = {worker.generation for worker in workers}
                return
            if time.monotonic() > deadline:
                raise Unreachable(
                    "the proxy does not hold the traffic table that it was given", details=tuple(problems[:10]),
                    hint="stelae doctor compares the two",
                )  # fmt: skip
            time.sleep(_POLL)

    def _sync_worker(self, worker: WorkerStatus, table: Table, numbers: Collection[int]) -> list[str]:
        """Return what is still different afterwards. A retired worker takes nothing new, so it counts only that
        it has stopped using what was taken out; one that cannot be asked any more is ending."""
        if worker.generation not in self._known:
            numbers = range(len(table.backends))
        look = [*show_backends(numbers), *SHOW_MAPS]
        try:
            seen = ask(worker.socket, look)
            if not worker.retired and (seen.outdated or not all(seen.has_backend(backend_name(n)) for n in numbers)):
                reload_workers(self._layout, self._supervisor())
                raise OSError("HAProxy is starting with more backends")
            found = differences(table, numbers, seen)
            if not any(found.steps):
                return []
            first, last = found.steps
            words = ask(worker.socket, first).words if first else []
            answer = ask(worker.socket, [*last, *look])
        except OSError:
            if worker.retired:
                return []
            raise
        left = differences(table, numbers, answer)
        if worker.retired:
            return left.leaks
        return [*left.sentences, *words, *answer.words] if left.sentences else []

    def _ask_all(self, commands: Sequence[str]) -> list[tuple[WorkerStatus, Answer]]:
        """Return what every worker says to *commands*; raises Unreachable when one that runs does not say."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return [(worker, ask(worker.socket, commands)) for worker in self._workers()]
            except OSError as error:
                if time.monotonic() > deadline:
                    raise Unreachable(f"the proxy does not answer: {error}") from error
            time.sleep(_POLL)

    def _workers(self) -> tuple[WorkerStatus, ...]:
        """Return the workers; raises OSError when none takes connections or one is just starting."""
        status = self._supervisor()
        if not all(worker.ready for worker in status.workers):
            raise OSError(status.problem or "HAProxy is starting")
        if all(worker.retired for worker in status.workers):
            raise OSError(status.problem or "HAProxy does not run")
        return status.workers

    def _supervisor(self) -> SupervisorStatus:
        ensure_supervisor(self._installation, cgroup=self._cgroup)
        status = supervisor_status(self._layout)
        if status is None:
            raise OSError("the proxy's supervisor is starting")
        return status


def _numbers(environment: EnvironmentId, *tables: Table) -> set[int]:
    """Return the backends that *environment* has in any of these tables."""
    return {number for table in tables for number in table.all_of(environment)}


def _slots(table: Table, numbers: Iterable[int]) -> Iterator[tuple[int, int, Slot]]:
    """Return the slots of these backends that an instance has, each with the numbers of backend and slot."""
    for number in numbers:
        for n, slot in enumerate(table.backends[number].slots):
            if slot is not None:
                yield number, n, slot
