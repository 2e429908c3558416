"""The objects of a cluster, every version of which has a number that grows, and who is told of their changes."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import NamedTuple
from uuid import UUID

from stelae.platforms.kubernetes.kinds import Kind, Object

_REMEMBERED = 20_000  # events of a kind that a watch can go on from


class Change(NamedTuple):
    """One change. ``old`` is None of what is new, ``new`` of what is gone, of which ``last`` is how it was."""

    version: int
    old: Object | None
    new: Object | None
    last: Object

    @property
    def namespace(self) -> str:
        """The namespace of the object."""
        return str(self.last["metadata"].get("namespace", ""))


Listener = Callable[[Kind, Change], None]


class Table:
    """Objects by kind, namespace and name. An object in it is never changed: another takes its place."""

    def __init__(self) -> None:
        self.version = 100
        self._objects: defaultdict[Kind, dict[str, dict[str, Object]]] = defaultdict(lambda: defaultdict(dict))
        self._history: defaultdict[Kind, deque[Change]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self._oldest = self.version
        self._listeners: list[Listener] = []
        self._made = 0

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return an object."""
        return self._objects[kind][namespace].get(name)

    def all(self, kind: Kind, namespace: str | None = None) -> Iterator[Object]:
        """Give the objects of a namespace, or of all (None)."""
        if namespace is not None:
            yield from list(self._objects[kind][namespace].values())
        else:
            for found in list(self._objects[kind].values()):
                yield from list(found.values())

    def put(self, kind: Kind, new: Object) -> Object:
        """Store an object under a new version, with a uid and a time when it is new; return it."""
        metadata = dict(new["metadata"])
        namespace = metadata.get("namespace", "") if kind.namespaced else ""
        old = self.get(kind, namespace, metadata["name"])
        self.version += 1
        if old is None:
            self._made += 1
            metadata |= {"uid": str(UUID(int=self._made)), "creationTimestamp": now()}
        else:
            metadata |= {key: old["metadata"][key] for key in ("uid", "creationTimestamp")}
        metadata["resourceVersion"] = str(self.version)
        stored = new | {"apiVersion": kind.api, "kind": kind.name, "metadata": metadata}
        self._objects[kind][namespace][metadata["name"]] = stored
        self._tell(kind, Change(self.version, old, stored, stored))
        return stored

    def remove(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Remove an object; return it as it was last, under the version of its removal."""
        old = self._objects[kind][namespace].pop(name, None)
        if old is None:
            return None
        self.version += 1
        last = old | {"metadata": old["metadata"] | {"resourceVersion": str(self.version)}}
        self._tell(kind, Change(self.version, old, None, last))
        return last

    def since(self, kind: Kind, version: int) -> list[Change] | None:
        """Return the changes after *version*; None when they are not remembered (410)."""
        history = self._history[kind]
        if version < self._oldest or (len(history) == _REMEMBERED and version < history[0].version):
            return None
        found: deque[Change] = deque()
        for change in reversed(history):
            if change.version <= version:
                break
            found.appendleft(change)
        return list(found)

    def forget(self) -> None:
        """Forget all changes up to now: a watch can go on from none of them."""
        self.version += 1
        self._oldest = self.version
        self._history.clear()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have *listener* called at each change; return what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _tell(self, kind: Kind, change: Change) -> None:
        self._history[kind].append(change)
        for listener in list(self._listeners):
            listener(kind, change)


def now() -> str:
    """Return the time as objects have it, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
