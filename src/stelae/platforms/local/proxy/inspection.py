"""What a worker really does, beside what follows from the table: its servers and maps as the table has them, and the
rest as its configuration file has it, which nothing of ours changes while it runs.

Each difference is of one environment, or of all (""): of a backend that nobody has, of a frontend, of a rule.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Unreachable
from stelae.platforms.local.proxy.counts import TABLE
from stelae.platforms.local.proxy.launch import WorkerStatus, supervisor_status
from stelae.platforms.local.proxy.layout import FRONTEND, Layout, backend_name
from stelae.platforms.local.proxy.runtime import SHOW_MAPS, ask, call, show_backends
from stelae.platforms.local.proxy.store import Store
from stelae.platforms.local.proxy.sync import differences
from stelae.platforms.local.proxy.table import Table

NOBODY = EnvironmentId("")
"""Whose is what belongs to no environment alone."""

_GENERAL = ("show stat -1 3 -1", "show info", f"show table {TABLE}", "show acl")
_FRONTENDS_AND_BACKENDS = re.compile(
    r"^([^,\n#]+),(FRONTEND|BACKEND),(?:[^,\n]*,){4}(\d*),(?:[^,\n]*,){10}([^,\n]*),", re.MULTILINE
)
_VALUE = re.compile(r"^(\w+): (\d+)$", re.MULTILINE)
_LIMITS = ("ConnRateLimit", "SessRateLimit", "SslRateLimit")
_RULE = re.compile(r"^(\d+) \(", re.MULTILINE)
_ADDRESS = re.compile(r"^0x[0-9a-f]+ ", re.MULTILINE)
_BACKEND = re.compile(r"\bb(\d+)\b")
_OTHERS = {TABLE, "nowhere"}
_SECONDS = 2.0
_LINE = 6000


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference; ``worker`` is the generation of the worker that has it."""

    environment: EnvironmentId
    sentence: str
    worker: int = 0


def of_worker(table: Table, worker: WorkerStatus) -> Iterator[Difference]:
    """Yield what *worker* does that it should not; raises OSError when it does not answer."""
    everything = range(len(table.backends))
    seen = ask(worker.socket, [*show_backends(everything), *SHOW_MAPS])
    for number in everything:
        compared = differences(table, [number], seen, maps=False)
        for sentence in compared.leaks if worker.retired else compared.sentences:
            yield _difference(table.backends[number].environment, sentence, worker)
    if worker.retired:
        return
    for sentence in differences(table, (), seen).sentences:
        yield _difference(_owner(table, sentence), sentence, worker)
    for sentence in _general(table, call(worker.socket, ";".join(_GENERAL), timeout=_SECONDS)):
        yield _difference(NOBODY, sentence, worker)


def rules_of(worker: WorkerStatus) -> str:
    """Return a digest of what the rules of *worker* compare requests with: its admin socket can change that. Raises
    OSError."""
    numbers = _RULE.findall(call(worker.socket, "show acl", timeout=_SECONDS))
    found = hashlib.sha256()
    for start in range(0, len(numbers), _LINE // 16):
        line = ";".join(f"show acl #{number}" for number in numbers[start : start + _LINE // 16])
        found.update(_ADDRESS.sub("", call(worker.socket, line, timeout=_SECONDS)).encode())
    return found.hexdigest()


def _general(table: Table, text: str) -> Iterator[str]:
    wanted = {(FRONTEND, "FRONTEND")}
    wanted |= {(name, "BACKEND") for name in (*_OTHERS, *(backend_name(n) for n in range(len(table.backends))))}
    values = dict(_VALUE.findall(text))
    most = values.get("Hard_maxconn", "")  # what it was configured with
    there = set()
    for name, kind, limit, state in _FRONTENDS_AND_BACKENDS.findall(text):
        there.add((name, kind))
        if kind == "FRONTEND" and state != "OPEN":
            yield f"the proxy's frontend is {state} and should be OPEN"
        if kind == "FRONTEND" and limit != most:
            yield f"the proxy's frontend takes {limit} connections and should take {most}"
    for name, kind in sorted(there - wanted):
        yield f"the proxy has the {kind.lower()} {name}"
    for name, kind in sorted(wanted - there):
        yield f"the proxy lacks the {kind.lower()} {name}"
    if values.get("Maxconn") != most:
        yield f"the proxy takes {values.get('Maxconn')} connections and should take {most}"
    if any(values.get(name, "0") != "0" for name in _LIMITS):
        yield "the proxy limits the rate of connections"
    if f"# table: {TABLE}, type: string, size:" not in text:
        yield f"the proxy lacks the table {TABLE}"


def _owner(table: Table, sentence: str) -> EnvironmentId:
    """Return whose a difference of the maps is: names and what they lead to have the number of a backend."""
    owners = {
        table.backends[number].environment
        for number in map(int, _BACKEND.findall(sentence))
        if number < len(table.backends)
    }
    return owners.pop() if len(owners) == 1 else NOBODY


def _difference(environment: EnvironmentId, sentence: str, worker: WorkerStatus) -> Difference:
    return Difference(environment=environment, sentence=sentence, worker=worker.generation)


class Looks:
    """Looks at all workers and files, and keeps what was seen for a moment: it is the same for all environments."""

    def __init__(self, layout: Layout, store: Store) -> None:
        self._layout = layout
        self._store = store
        self._kept: tuple[float, Table, tuple[Difference, ...]] | None = None
        self._rules: dict[int, str] = {}  # of each worker, as they were at the first look

    def all(self, table: Table, seconds: float) -> Sequence[Difference]:
        """Return the differences from *table*, of a look that is at most *seconds* old. Raises Unreachable when the
        proxy does not answer, or starts just now."""
        if self._kept is None or self._kept[1] is not table or time.monotonic() - self._kept[0] > seconds:
            self._kept = time.monotonic(), table, tuple(self._look(table))
        return self._kept[2]

    def _look(self, table: Table) -> Iterator[Difference]:
        status = supervisor_status(self._layout)
        if status is None or not all(worker.ready for worker in status.workers):
            raise Unreachable("the proxy is just starting, or does not run")
        for sentence in self._store.differences():
            yield Difference(environment=NOBODY, sentence=sentence)
        for worker in status.workers:
            if worker.shape and worker.shape not in self._store.shapes:
                yield _difference(NOBODY, "the proxy was started with another configuration", worker)
            try:
                yield from of_worker(table, worker)
                rules = rules_of(worker)
            except OSError as error:
                if worker.retired:
                    continue
                raise Unreachable(f"the proxy does not answer: {error}") from error
            if self._rules.setdefault(worker.generation, rules) != rules:
                yield _difference(NOBODY, "what a rule of the proxy compares with was changed", worker)


def told_by(table: Table) -> EnvironmentId:
    """Return the environment that tells what is nobody's: the first by name, so that it is told once."""
    return min((backend.environment for backend in table.backends if backend.environment), default=NOBODY)


def of_environment(
    found: Sequence[Difference], environment: EnvironmentId, *, tells: bool
) -> Mapping[str, tuple[str, ...]]:
    """Return the sentences for *environment*, each with where it is so; if it *tells*, also those for nobody."""
    chosen: dict[str, tuple[str, ...]] = {}
    for item in found:
        if item.environment == environment or (tells and item.environment == NOBODY):
            where = f"HAProxy's worker {item.worker}" if item.worker else "the files of the proxy"
            chosen[item.sentence] = tuple(dict.fromkeys((*chosen.get(item.sentence, ()), where)))
    return chosen
