"""What differs between the table and a worker, as commands that remove the difference and as sentences about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stelae.platforms.local.proxy.layout import HOSTS, PATTERNS, backend_name, server_name
from stelae.platforms.local.proxy.runtime import Answer, Server
from stelae.platforms.local.proxy.table import Backend, Slot, Table

_SERVER = re.compile(r"b\d+/s\d+")
_ROUTE = re.compile(r"b\d+/(routes|host|user)")


@dataclass(slots=True)
class Differences:
    """Sentences, and commands in steps: whose a server is, what adds capacity and names, and what takes them away.
    ``leaks`` are those sentences that say that requests go where they should not. ``parting`` takes routes away, and
    is done on its own before anything else is taken: a request that was just led by one still finds a server."""

    sentences: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    labelling: list[str] = field(default_factory=list)
    adding: list[str] = field(default_factory=list)
    naming: list[str] = field(default_factory=list)
    parting: list[str] = field(default_factory=list)
    taking: list[str] = field(default_factory=list)
    unnaming: list[str] = field(default_factory=list)

    @property
    def steps(self) -> tuple[list[str], list[str]]:
        """All commands, in the order in which there is never a moment without a server or a name, in two calls."""
        return [*self.labelling, *self.adding, *self.naming, *self.parting], [*self.taking, *self.unnaming]

    def take_out(self, path: str, state: str, sentence: str) -> None:
        """Note that server *path* must get no new requests."""
        self.sentences.append(sentence)
        self.leaks.append(sentence)
        self.taking.append(f"set server {path} state {state}")


def differences(table: Table, backends: Iterable[int], seen: Answer, *, maps: bool = True) -> Differences:
    """Compare *backends* and, unless it is not asked for, all names and patterns of *table* with what a worker showed
    of them."""
    found = Differences()
    for number in backends:
        _compare_backend(number, table.backends[number], seen, found)
    if not maps:
        return found
    _compare_map(HOSTS, table.names(), seen.names, found)
    _compare_map(PATTERNS, table.patterns(), seen.patterns, found)
    return found


def _compare_backend(number: int, backend: Backend, seen: Answer, found: Differences) -> None:
    name = backend_name(number)
    servers = {server: live for (owner, server), live in seen.servers.items() if owner == name}
    for n, slot in enumerate(backend.slots):
        live = servers.pop(server_name(n), None)
        path = f"{name}/{server_name(n)}"
        if slot is None:
            _must_be_free(path, live, found)
        elif slot.draining:
            _must_drain(path, slot, live, found)
        else:
            _must_serve(path, slot, live, found)
    for server, live in servers.items():
        _must_be_free(f"{name}/{server}", live, found)


def _must_be_free(path: str, live: Server | None, found: Differences) -> None:
    if live and not live.maintenance:
        found.take_out(path, "maint", f"{path} ({live.address}:{live.port}) is in use and no instance has it")


def _must_drain(path: str, slot: Slot, live: Server | None, found: Differences) -> None:
    if live and not live.out:
        found.take_out(path, "drain", f"{path} gets new requests and {slot.instance} should get none")


def _must_serve(path: str, slot: Slot, live: Server | None, found: Differences) -> None:
    commands = []
    if live is None:
        found.sentences.append(f"{path} is not there and {slot.instance} should have it")
        commands = [f"add server {path} {slot.address}:{slot.port} weight {slot.weight}"]
        commands.append(f"set server {path} state ready")
    else:
        if (live.address, live.port) != (slot.address, slot.port):
            found.sentences.append(
                f"{path} is at {live.address}:{live.port} and {slot.instance} is at {slot.address}:{slot.port}"
            )
            commands.append(f"set server {path} addr {slot.address} port {slot.port}")
        if live.weight != slot.weight:
            found.sentences.append(f"{path} has weight {live.weight} and {slot.instance} should have {slot.weight}")
            commands.append(f"set server {path} weight {slot.weight}")
        if not live.eligible:
            found.sentences.append(f"{path} gets no requests and {slot.instance} should get them")
            commands.append(f"set server {path} state ready")
    found.adding.extend(commands)


def _compare_map(file: str, wanted: Mapping[str, str], seen: Mapping[str, list[str]], found: Differences) -> None:
    for key, value in sorted(wanted.items()):
        live = seen.get(key, [])
        if live == [value]:
            continue
        found.sentences.append(f"{key} leads to {' and '.join(live) or 'nothing'} and should to {value}")
        step = found.labelling if _SERVER.fullmatch(key) else found.naming
        if len(live) > 1:
            step.append(f"del map {file} {_word(key)}")
        verb = "set" if len(live) == 1 else "add"
        step.append(f"{verb} map {file} {_word(key)} {value}")
    for key in sorted(seen.keys() - wanted.keys()):
        found.sentences.append(f"{key} leads to {seen[key][0]} and should to nothing")
        step = found.parting if file == PATTERNS or _ROUTE.match(key) else found.unnaming
        step.append(f"del map {file} {_word(key)}")


def _word(key: str) -> str:
    """Return *key* as a word of a command."""
    return key.replace("\\", "\\\\")
