"""What the watches have told of a namespace: the objects of one installation, by kind and environment.

Only what decisions and inspections are made of is kept; a whole object, and who wrote each of its fields, is asked
for when it is needed.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from stelae.domain.environment import EnvironmentId, environment_id
from stelae.platforms.kubernetes import kinds, names
from stelae.platforms.kubernetes.kinds import Kind, Object

_OF_POD: Final = ("nodeName", "hostNetwork", "hostPID", "hostIPC", "terminationGracePeriodSeconds")
_OF_CONTAINER: Final = ("name", "image", "command", "args")
_CONTAINERS: Final = ("containers", "initContainers", "ephemeralContainers")
_OF_ONE: Final = frozenset({"nodeName", "ephemeralContainers", "hostname"})
_OF_SET: Final = ("labels", "annotations", "ownerReferences")  # of the metadata of a pod, as all of its set have it
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


def environment_of(found: Mapping[str, Any]) -> EnvironmentId:
    """Return the environment that an object belongs to by its labels, "" where they name none."""
    labels = found["metadata"].get("labels") or {}
    app, name = labels.get(names.APP), labels.get(names.ENVIRONMENT)
    return environment_id(app, name) if app and name else EnvironmentId("")


def version_of(found: Mapping[str, Any]) -> int:
    """Return an object's resource version: a number that grows (Kubernetes 1.35 made that a promise)."""
    version = found["metadata"].get("resourceVersion", "")
    return int(version) if version.isdecimal() else 0


def kept(kind: Kind, found: Object) -> Object:
    """Return the part of an object that the cache keeps, of a list's item too, which says no kind."""
    metadata = dict(found["metadata"])
    written = metadata.pop("managedFields", None)
    if written and kind is not kinds.POD:
        metadata["managedFields"] = [{k: v for k, v in entry.items() if k != "fieldsV1"} for entry in written]
    if (annotations := metadata.get("annotations")) and _LAST_APPLIED in annotations:
        metadata["annotations"] = {k: v for k, v in annotations.items() if k != _LAST_APPLIED}
    if kind in kinds.BARE:
        return {"apiVersion": kind.api, "kind": kind.name, "metadata": metadata}
    result = found | {"apiVersion": kind.api, "kind": kind.name, "metadata": metadata}
    if kind is kinds.POD:
        result["spec"] = _pod(found.get("spec", {}))
        metadata |= {key: _shared(metadata[key]) for key in _OF_SET if key in metadata}
    return result


def spec_digest(spec: Mapping[str, Any]) -> str:
    """Return a digest of what the spec of a pod has in common with those of its whole set."""
    common = {key: value for key, value in spec.items() if key not in _OF_ONE}
    return hashlib.blake2b(msgspec.json.encode(common, order="sorted"), digest_size=16).hexdigest()


def _shared(value: Any) -> Any:
    """Return what is like *value*, the same for all pods that have the like: a set's labels are there once."""
    return _once(msgspec.json.encode(value))


@lru_cache(maxsize=4096)
def _once(text: bytes) -> Any:
    return msgspec.json.decode(text)


def _pod(spec: Object) -> Object:
    result: Object = {key: spec[key] for key in _OF_POD if key in spec} | {"digest": spec_digest(spec)}
    for key in _CONTAINERS:
        if key in spec:
            result[key] = _shared([{k: one[k] for k in _OF_CONTAINER if k in one} for one in spec[key]])
    return result


class Store:
    """The objects of one kind. It never goes back: an older version than the one it has is not taken."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.objects: dict[str, Object] = {}
        self._by: defaultdict[EnvironmentId, dict[str, Object]] = defaultdict(dict)
        self._removed: dict[str, str] = {}  # uid to name of what we deleted, until the watch says so too

    def of(self, environment: EnvironmentId) -> tuple[Object, ...]:
        """Return the objects of *environment*, by name."""
        found = self._by.get(environment, {})
        return tuple(found[name] for name in sorted(found))

    def environments(self) -> frozenset[EnvironmentId]:
        """Return the environments that have objects."""
        return frozenset(self._by)

    def put(self, found: Object) -> frozenset[EnvironmentId]:
        """Take what a watch or an answer told of an object; return the environments for which that is news."""
        return self._put(kept(self.kind, found))

    def _put(self, new: Object) -> frozenset[EnvironmentId]:
        metadata = new["metadata"]
        name, old = metadata["name"], self.objects.get(metadata["name"])
        if metadata.get("uid") in self._removed:
            return frozenset()
        if old is not None and version_of(new) <= version_of(old):
            return frozenset()
        after = environment_of(new)
        before = self._drop(name)
        self.objects[name] = new
        self._by[after][name] = new
        return frozenset({*before, after})

    def gone(self, found: Object) -> frozenset[EnvironmentId]:
        """Take that a watch says that an object is gone, or has our labels no more; return whose it was."""
        metadata = found["metadata"]
        self._removed.pop(metadata.get("uid", ""), None)
        old = self.objects.get(metadata["name"])
        if old is None or old["metadata"].get("uid") != metadata.get("uid"):
            return frozenset()
        return self._drop(metadata["name"])

    def removed(self, name: str, uid: str) -> None:
        """Take that the server has deleted an object at our word; what a watch still tells of it is old."""
        old = self.objects.get(name)
        if old is not None and old["metadata"].get("uid") == uid:
            self._drop(name)
            self._removed[uid] = name

    def replace(self, found: Iterable[Object], version: int) -> frozenset[EnvironmentId]:
        """Take a whole list, of which ``kept`` was made, as it was at *version*; return for which
        environments anything in it is news.

        What an answer told of after the list was made is kept.
        """
        listed = {each["metadata"]["name"]: each for each in found}
        self._removed.clear()
        news: set[EnvironmentId] = set()
        for name in [name for name in self.objects if name not in listed]:
            if version_of(self.objects[name]) <= version:
                news |= self._drop(name)
        for each in listed.values():
            news |= self._put(each)
        return frozenset(news)

    def _drop(self, name: str) -> frozenset[EnvironmentId]:
        old = self.objects.pop(name, None)
        if old is None:
            return frozenset()
        environment = environment_of(old)
        del self._by[environment][name]
        if not self._by[environment]:
            del self._by[environment]
        return frozenset({environment})


class Cache:
    """The objects of one installation in one namespace, as the watches have told of them."""

    def __init__(self) -> None:
        self.stores: dict[Kind, Store] = {kind: Store(kind) for kind in kinds.WATCHED}
        self.problems: dict[Kind, str] = dict.fromkeys(kinds.WATCHED, "it has not been listed yet")

    @property
    def fresh(self) -> bool:
        """True while every kind was listed and is being followed: what is here is what is there."""
        return not self.problems

    @property
    def problem(self) -> str:
        """Why it is not fresh, in words."""
        said = {problem: kind for kind, problem in reversed(self.problems.items())}
        return "; ".join(f"{kind.plural}: {problem}" for problem, kind in reversed(said.items()))

    def all(self, kind: Kind) -> tuple[Object, ...]:
        """Return every object of *kind*."""
        return tuple(self.stores[kind].objects.values())

    def of(self, kind: Kind, environment: EnvironmentId) -> tuple[Object, ...]:
        """Return the objects of *kind* that belong to *environment*, by name."""
        return self.stores[kind].of(environment)

    def get(self, kind: Kind, name: str) -> Object | None:
        """Return an object by its name."""
        return self.stores[kind].objects.get(name)

    def environments(self) -> frozenset[EnvironmentId]:
        """Return the environments that have anything here."""
        every = (store.environments() for store in self.stores.values())
        return frozenset().union(*every) - {EnvironmentId("")}

    def pods(self, environment: EnvironmentId) -> tuple[Object, ...]:
        """Return the pods of *environment*."""
        return self.of(kinds.POD, environment)

    def deployments(self, environment: EnvironmentId) -> tuple[Object, ...]:
        """Return the Deployments of *environment*."""
        return self.of(kinds.DEPLOYMENT, environment)

    def services(self, environment: EnvironmentId) -> tuple[Object, ...]:
        """Return the Services of *environment*."""
        return self.of(kinds.SERVICE, environment)

    def slices(self, environment: EnvironmentId) -> tuple[Object, ...]:
        """Return the EndpointSlices of *environment*: which pods really get requests."""
        return self.of(kinds.SLICE, environment)

    def routes(self, environment: EnvironmentId) -> tuple[Object, ...]:
        """Return the HTTPRoutes of *environment*."""
        return self.of(kinds.ROUTE, environment)

    def jobs(self, environment: EnvironmentId) -> tuple[Object, ...]:
        """Return the Jobs of *environment*."""
        return self.of(kinds.JOB, environment)

    def budgets(self, environment: EnvironmentId) -> tuple[Object, ...]:
        """Return the PodDisruptionBudgets of *environment*."""
        return self.of(kinds.BUDGET, environment)

    def settings(self, environment: EnvironmentId) -> tuple[Object, ...]:
        """Return the ConfigMaps of *environment*, their metadata only."""
        return self.of(kinds.CONFIG_MAP, environment)

    def secrets(self, environment: EnvironmentId) -> tuple[Object, ...]:
        """Return the Secrets of *environment*, their metadata only."""
        return self.of(kinds.SECRET, environment)
