"""The router's memory as data: which environment has which backend, and which instance which slot of it.

Pure functions make the next table from the last one. The JSON form is private to Stelae.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from stelae.domain.allocation import InstanceId, Route, RouteKind
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Failed, InvalidInput
from stelae.domain.release import ReleaseId
from stelae.platforms.local.proxy import routes as of_routes
from stelae.platforms.local.proxy.counts import token_of
from stelae.platforms.local.proxy.layout import backend_name, server_name
from stelae.platforms.port import RouteEntry

BACKENDS = 24
SLOTS = 32
MOST_WEIGHT = 256
ROUTED_WEIGHT = 100  # of each instance among those of its release
MOST_SLOTS = 4000  # HAProxy's round robin holds 4095 servers

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One server of a backend and the instance of ``release`` that has it. A draining one gets no new requests."""

    instance: InstanceId
    address: str
    port: int
    weight: int
    draining: bool = False
    release: ReleaseId = ReleaseId("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One backend: the environment that has it (empty: nobody), its host names, its routes and its slots.

    An environment has one by whose weights requests are spread, and one more, with the ``release``, for each release
    that routes lead to.
    """

    environment: EnvironmentId = EnvironmentId("")
    hosts: tuple[str, ...] = ()
    slots: tuple[Slot | None, ...] = ()
    routes: tuple[Route, ...] = ()
    release: ReleaseId = ReleaseId("")

    @property
    def all_hosts(self) -> tuple[str, ...]:
        """Its host names and those of its routes."""
        return (*self.hosts, *(route.name for route in self.routes if route.kind is RouteKind.HOST))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All backends. ``slots`` is the number that a backend starts with; it gets more when it needs them."""

    backends: tuple[Backend, ...]
    slots: int = SLOTS

    def index_of(self, environment: EnvironmentId, release: ReleaseId = ReleaseId("")) -> int | None:
        """Return the number of *environment*'s backend, or of the one for what is led to *release*, or None."""
        wanted = environment, release
        return next((n for n, item in enumerate(self.backends) if (item.environment, item.release) == wanted), None)

    def all_of(self, environment: EnvironmentId) -> list[int]:
        """Return the numbers of all of *environment*'s backends."""
        return [n for n, backend in enumerate(self.backends) if backend.environment == environment]

    def hosts(self) -> dict[str, int]:
        """Return every host name with the number of its environment's backend."""
        return {host: n for n, backend in enumerate(self.backends) for host in backend.all_hosts}

    def names(self) -> dict[str, str]:
        """Return the map of names; ``routes`` describes it."""
        found = {host: backend_name(n) for host, n in self.hosts().items()}
        for n, backend in enumerate(self.backends):
            here, owner = backend_name(n), backend.environment
            for number, slot in enumerate(backend.slots):
                if slot is not None and slot.release:
                    found[f"{here}/{server_name(number)}"] = token_of(owner, slot.release)
            if backend.routes:
                found[f"{here}/routes"] = of_routes.kinds(backend.routes)
            for route, there in self._led(backend):
                if route.kind is RouteKind.HOST:
                    found[f"{here}/host/{route.name}"] = there
                elif route.kind is RouteKind.STICKY:
                    found[f"{here}/user/{token_of(owner, route.release)}"] = there
        return found

    def patterns(self) -> dict[str, str]:
        """Return the map of patterns; ``routes`` describes it."""
        return {
            of_routes.pattern(backend_name(n), route): there
            for n, backend in enumerate(self.backends)
            for route, there in self._led(backend)
            if route.kind in (RouteKind.HEADER, RouteKind.COOKIE)
        }

    def _led(self, backend: Backend) -> Iterable[tuple[Route, str]]:
        for route in backend.routes:
            there = self.index_of(backend.environment, route.release)
            if there is not None:
                yield route, backend_name(there)

    def with_backend(self, number: int, backend: Backend) -> Table:
        """Return the table with *backend* in place of the one of that number."""
        backends = list(self.backends)
        backends[number] = backend
        return replace(self, backends=tuple(backends))


def empty_table(backends: int = BACKENDS, slots: int = SLOTS) -> Table:
    """Return a table in which nobody has anything."""
    return Table(backends=(Backend(slots=(None,) * slots),) * backends, slots=slots)


def check_entries(entries: Sequence[RouteEntry], hosts: Sequence[str]) -> tuple[str, ...]:
    """Return *hosts* in their one form (lower case, no final dot); raises InvalidInput for anything that
    must not get into HAProxy's configuration or onto its socket."""
    for entry in entries:
        try:
            IPv4Address(entry.address)
        except AddressValueError as error:
            raise InvalidInput(f"{entry.instance} has no IPv4 address: {entry.address[:100]!r}") from error
        if not 1 <= entry.port <= 65535:
            raise InvalidInput(f"{entry.instance} has port {entry.port}, which is not between 1 and 65535")
        if not 0 <= entry.weight <= MOST_WEIGHT:
            raise InvalidInput(f"{entry.instance} has weight {entry.weight}, which is not between 0 and 256")
    if len({entry.instance for entry in entries}) != len(entries):
        raise InvalidInput("an instance is in the traffic table twice")
    if len(entries) > MOST_SLOTS:
        raise InvalidInput(f"{len(entries)} instances are more than the {MOST_SLOTS} that a backend can hold")
    return tuple(dict.fromkeys(_host(name) for name in hosts))


def check_routes(routes: Sequence[Route]) -> tuple[Route, ...]:
    """Return *routes* in their one form; raises InvalidInput for what must not get onto HAProxy's socket."""
    of_routes.check_routes(routes)
    return tuple(
        replace(route, name=_host(route.name)) if route.kind is RouteKind.HOST else route
        for route in dict.fromkeys(routes)
    )


def _host(name: str) -> str:
    found = name.lower().removesuffix(".")
    if not _HOST.fullmatch(found):
        raise InvalidInput(f"not a host name: {found[:100]!r}", hint="letters, digits, hyphens and dots, no port")
    return found


def routed(
    table: Table, environment: EnvironmentId, entries: Sequence[RouteEntry], hosts: tuple[str, ...],
    busy: Callable[[int], Collection[int]], routes: tuple[Route, ...] = (),
) -> Table:  # fmt: skip
    """Return the table in which *environment* has exactly *entries*, *hosts* and *routes*; what else it had drains.

    *busy* gives, for a backend, the slots that still have connections of an instance that was forgotten: they
    are not given away. Raises Conflict when a host is another environment's.
    """
    owners = table.hosts()
    number = table.index_of(environment)
    wanted = Backend(environment=environment, hosts=hosts, routes=routes)
    for host in wanted.all_hosts:
        if owners.get(host, number) != number:
            other = table.backends[owners[host]].environment
            raise Conflict(f"the host {host} belongs to {other}", hint="a host name can have one environment only")
    if number is None and not entries and not wanted.all_hosts:
        return table
    weighted = [entry for entry in entries if entry.weight]
    table = _held(table, wanted, weighted, busy)
    led = list(dict.fromkeys(route.release for route in routes))
    before = [release for n in table.all_of(environment) if (release := table.backends[n].release)]
    for release in dict.fromkeys([*led, *before]):
        mine = [entry for entry in entries if entry.release == release] if release in led else []
        equal = [replace(entry, weight=ROUTED_WEIGHT) for entry in mine]
        table = _held(table, Backend(environment=environment, release=release), equal, busy, keep=release in led)
    return table


def _held(
    table: Table, wanted: Backend, entries: Sequence[RouteEntry], busy: Callable[[int], Collection[int]], *,
    keep: bool = False,
) -> Table:  # fmt: skip
    """Return the table in which the environment's backend of that release is *wanted*, with exactly *entries*."""
    number = table.index_of(wanted.environment, wanted.release)
    if number is None:
        table, number = _with_free_backend(table)
    new = replace(wanted, slots=_filled(table.backends[number], entries, lambda: busy(number), table.slots))
    return table.with_backend(number, new if keep else _unless_unused(new))


def forgotten(table: Table, environment: EnvironmentId, instance: InstanceId) -> Table:
    """Return the table without *instance*; a backend is free when it was the last thing in it."""
    led = {route.release for n in table.all_of(environment) for route in table.backends[n].routes}
    for number in table.all_of(environment):
        backend = table.backends[number]
        slots = tuple(None if slot and slot.instance == instance else slot for slot in backend.slots)
        new = replace(backend, slots=slots)
        table = table.with_backend(number, new if backend.release in led else _unless_unused(new))
    return table


def _with_free_backend(table: Table) -> tuple[Table, int]:
    """Return a free backend's number; a table without one gets twice as many, which needs a new worker."""
    number = table.index_of(EnvironmentId(""))
    if number is not None:
        return table, number
    more = (Backend(slots=(None,) * table.slots),) * max(1, len(table.backends))
    return replace(table, backends=table.backends + more), len(table.backends)


def _filled(
    backend: Backend, entries: Sequence[RouteEntry], busy: Callable[[], Collection[int]], step: int
) -> tuple[Slot | None, ...]:
    wanted = {entry.instance: entry for entry in entries}
    slots: list[Slot | None] = []
    for slot in backend.slots:
        entry = wanted.pop(slot.instance, None) if slot else None
        slots.append(_slot(entry) if entry else replace(slot, draining=True) if slot else None)
    if wanted:
        taken = busy()
        free = [n for n, slot in enumerate(slots) if slot is None and n not in taken]
        while len(free) < len(wanted):
            free.extend(range(len(slots), len(slots) + step))
            slots.extend([None] * step)
        for number, entry in zip(free, wanted.values(), strict=False):
            slots[number] = _slot(entry)
    return tuple(slots)


def _slot(entry: RouteEntry) -> Slot:
    return Slot(
        instance=entry.instance, address=entry.address, port=entry.port, weight=entry.weight, release=entry.release
    )


def _unless_unused(backend: Backend) -> Backend:
    used = backend.all_hosts or any(backend.slots)
    return backend if used else Backend(slots=backend.slots)


def to_json(table: Table) -> bytes:
    """Return the table as the bytes of its file."""
    backends = [
        {
            "environment": backend.environment,
            "hosts": backend.hosts,
            "release": backend.release,
            "routes": [[route.kind, route.release, route.name, route.value] for route in backend.routes],
            "size": len(backend.slots),
            "slots": {
                str(n): [slot.instance, slot.address, slot.port, slot.weight, slot.draining, slot.release]
                for n, slot in enumerate(backend.slots)
                if slot
            },
        }
        for backend in table.backends
    ]
    return json.dumps({"version": 1, "slots": table.slots, "backends": backends}, indent=1).encode()


def from_json(data: bytes, where: str) -> Table:
    """Return the table that ``to_json`` wrote; raises Failed, naming the file *where*, when it is something else."""
    try:
        document = json.loads(data)
        if document["version"] != 1:
            raise KeyError("version")
        return Table(
            slots=int(document["slots"]), backends=tuple(_backend_from(item) for item in document["backends"])
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise Failed(
            "the proxy's table cannot be read", where=where,
            hint="delete the file and start the controller again: it writes the table anew",
        ) from error  # fmt: skip


def _backend_from(item: Any) -> Backend:
    slots: list[Slot | None] = [None] * item["size"]
    for number, (instance, address, port, weight, draining, *release) in item["slots"].items():
        slots[int(number)] = Slot(
            instance=InstanceId(instance), address=address, port=port, weight=weight, draining=draining,
            release=ReleaseId(release[0] if release else ""),
        )  # fmt: skip
    routes = (
        Route(kind=RouteKind(kind), release=ReleaseId(release), name=name, value=value)
        for kind, release, name, value in item.get("routes", ())
    )
    return Backend(
        environment=EnvironmentId(item["environment"]), hosts=tuple(item["hosts"]), slots=tuple(slots),
        release=ReleaseId(item.get("release", "")), routes=tuple(routes),
    )  # fmt: skip
