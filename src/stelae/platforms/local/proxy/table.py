"""The router's memory as data: which environment has which backend, and which instance which slot of it.

Pure functions make the next table from the last one. The JSON form is private to Stelae.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Failed, InvalidInput
from stelae.platforms.port import RouteEntry

BACKENDS = 16
SLOTS = 32
MOST_WEIGHT = 256
MOST_SLOTS = 4000  # HAProxy's round robin holds 4095 servers

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One server of a backend and the instance that has it. A draining one gets no new requests."""

    instance: InstanceId
    address: str
    port: int
    weight: int
    draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One backend: the environment that has it (empty: nobody), its host names and its slots."""

    environment: EnvironmentId = EnvironmentId("")
    hosts: tuple[str, ...] = ()
    slots: tuple[Slot | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All backends. ``slots`` is the number that a backend starts with; it gets more when it needs them."""

    backends: tuple[Backend, ...]
    slots: int = SLOTS

    def index_of(self, environment: EnvironmentId) -> int | None:
        """Return the number of *environment*'s backend, or None."""
        return next((n for n, backend in enumerate(self.backends) if backend.environment == environment), None)

    def hosts(self) -> dict[str, int]:
        """Return every host name with the number of its backend."""
        return {host: n for n, backend in enumerate(self.backends) for host in backend.hosts}

    def with_backend(self, number: int, backend: Backend) -> Table:
        """Return the table with *backend* in place of the one of that number."""
        backends = list(self.backends)
        backends[number] = backend
        return replace(self, backends=tuple(backends))


def empty_table(backends: int = BACKENDS, slots: int = SLOTS) -> Table:
    """Return a table in which nobody has anything."""
    return Table(backends=(Backend(slots=(None,) * slots),) * backends, slots=slots)


def backend_name(number: int) -> str:
    """Return HAProxy's name of a backend."""
    return f"b{number}"


def server_name(number: int) -> str:
    """Return HAProxy's name of a slot."""
    return f"s{number}"


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
        if not 1 <= entry.weight <= MOST_WEIGHT:
            raise InvalidInput(f"{entry.instance} has weight {entry.weight}, which is not between 1 and 256")
    if len({entry.instance for entry in entries}) != len(entries):
        raise InvalidInput("an instance is in the traffic table twice")
    if len(entries) > MOST_SLOTS:
        raise InvalidInput(f"{len(entries)} instances are more than the {MOST_SLOTS} that a backend can hold")
    names = tuple(dict.fromkeys(host.lower().removesuffix(".") for host in hosts))
    for name in names:
        if not _HOST.fullmatch(name):
            raise InvalidInput(f"not a host name: {name[:100]!r}", hint="letters, digits, hyphens and dots, no port")
    return names


def routed(
    table: Table, environment: EnvironmentId, entries: Sequence[RouteEntry], hosts: tuple[str, ...],
    busy: Callable[[int], Collection[int]],
) -> Table:  # fmt: skip
    """Return the table in which *environment* has exactly *entries* and *hosts*; what it had besides drains.

    *busy* gives, for a backend, the slots that still have connections of an instance that was forgotten: they
    are not given away. Raises Conflict when a host is another environment's.
    """
    owners = table.hosts()
    number = table.index_of(environment)
    for host in hosts:
        if owners.get(host, number) != number:
            other = table.backends[owners[host]].environment
            raise Conflict(f"the host {host} belongs to {other}", hint="a host name can have one environment only")
    if number is None:
        if not entries and not hosts:
            return table
        table, number = _with_free_backend(table)
    backend = table.backends[number]
    new = _filled(backend, entries, busy(number), table.slots)
    return table.with_backend(number, _unless_unused(replace(new, environment=environment, hosts=hosts)))


def forgotten(table: Table, environment: EnvironmentId, instance: InstanceId) -> Table:
    """Return the table without *instance*; its environment's backend is free when it was the last thing in it."""
    number = table.index_of(environment)
    if number is None:
        return table
    backend = table.backends[number]
    slots = tuple(None if slot and slot.instance == instance else slot for slot in backend.slots)
    return table.with_backend(number, _unless_unused(replace(backend, slots=slots)))


def _with_free_backend(table: Table) -> tuple[Table, int]:
    """Return a free backend's number; a table without one gets twice as many, which needs a new worker."""
    number = table.index_of(EnvironmentId(""))
    if number is not None:
        return table, number
    more = (Backend(slots=(None,) * table.slots),) * max(1, len(table.backends))
    return replace(table, backends=table.backends + more), len(table.backends)


def _filled(backend: Backend, entries: Sequence[RouteEntry], busy: Collection[int], step: int) -> Backend:
    wanted = {entry.instance: entry for entry in entries}
    slots: list[Slot | None] = []
    for slot in backend.slots:
        entry = wanted.pop(slot.instance, None) if slot else None
        slots.append(_slot(entry) if entry else replace(slot, draining=True) if slot else None)
    free = [n for n, slot in enumerate(slots) if slot is None and n not in busy]
    while len(free) < len(wanted):
        free.extend(range(len(slots), len(slots) + step))
        slots.extend([None] * step)
    for number, entry in zip(free, wanted.values(), strict=False):
        slots[number] = _slot(entry)
    return replace(backend, slots=tuple(slots))


def _slot(entry: RouteEntry) -> Slot:
    return Slot(instance=entry.instance, address=entry.address, port=entry.port, weight=entry.weight)


def _unless_unused(backend: Backend) -> Backend:
    used = backend.hosts or any(backend.slots)
    return backend if used else replace(backend, environment=EnvironmentId(""))


def to_json(table: Table) -> bytes:
    """Return the table as the bytes of its file."""
    backends = [
        {
            "environment": backend.environment,
            "hosts": backend.hosts,
            "size": len(backend.slots),
            "slots": {
                str(n): [slot.instance, slot.address, slot.port, slot.weight, slot.draining]
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
    for number, (instance, address, port, weight, draining) in item["slots"].items():
        slots[int(number)] = Slot(
            instance=InstanceId(instance), address=address, port=port, weight=weight, draining=draining
        )
    return Backend(
        environment=EnvironmentId(item["environment"]), hosts=tuple(item["hosts"]), slots=tuple(slots)
    )  # fmt: skip
