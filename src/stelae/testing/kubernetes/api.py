"""What each request to the API does: its verbs on the objects of a table.

Format: https://kubernetes.io/docs/reference/using-api/api-concepts/.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from random import Random
from typing import Final
from uuid import uuid4

from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.connection import APPLY, MERGE
from stelae.platforms.kubernetes.kinds import Kind, Object
from stelae.testing.kubernetes import answer, applying, defaults
from stelae.testing.kubernetes.http import Asked
from stelae.testing.kubernetes.selecting import by_query
from stelae.testing.kubernetes.table import Table, now

_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_TOO_OLD: Final = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter."
)

Place = tuple[Kind, str, str, str]
"""A kind, a namespace, a name and a subresource, as an address has them; "" for what it does not name."""


class Api:
    """Carries requests out on *table*. A kind that is *missing* is unknown to this cluster."""

    def __init__(self, table: Table, chance: Random, missing: frozenset[Kind] = frozenset()) -> None:
        self.table = table
        self.missing = missing
        self.calls: Counter[tuple[str, str]] = Counter()
        self.pages: dict[str, tuple[int, list[Object]]] = {}  # the rests of lists, by token
        self._chance = chance
        self._number = 0

    def place(self, path: str) -> Place | None:
        """Return what an address is of, None for none that is known."""
        parts = path.strip("/").split("/")
        if parts[:1] == ["api"]:
            api, rest = "/".join(parts[1:2]), parts[2:]
        elif parts[:1] == ["apis"]:
            api, rest = "/".join(parts[1:3]), parts[3:]
        else:
            return None
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        for kind in kinds.EVERY:
            if rest and (kind.api, kind.plural) == (api, rest[0]) and kind not in self.missing:
                name, subresource = [*rest[1:3], "", ""][:2]
                return kind, namespace, name, subresource
        return None

    def discovery(self, path: str) -> Object | None:
        """Return the resources of a group and version, None where there are none."""
        api = path.strip("/").partition("/")[2]
        found = [kind for kind in kinds.EVERY if kind.api == api and kind not in self.missing]
        resources = [{"name": kind.plural, "singularName": kind.name.lower(), "namespaced": kind.namespaced,
                      "kind": kind.name, "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]}
                     for kind in found]  # fmt: skip
        head: Object = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api}
        return head | {"resources": resources} if found else None

    def do(self, verb: str, place: Place, asked: Asked) -> tuple[int, Object]:
        """Carry out a request that is no stream; return its answer. Raises Refusal."""
        kind, namespace, name, subresource = place
        self._known(kind, namespace, verb)
        match verb:
            case "list":
                return 200, self._list(kind, namespace, asked)
            case "get":
                return 200, self._there(kind, namespace, name)
            case "create":
                return 201, self._create(kind, namespace, asked)
            case "delete":
                return 200, self._delete(kind, namespace, name, _body(asked))
            case "update":
                return 200, self._replace(kind, namespace, name, subresource, asked)
            case _:
                return self._patch(kind, namespace, name, subresource, asked)

    def _known(self, kind: Kind, namespace: str, verb: str) -> None:
        """A namespace has to be there for what is made in it; of one that is not, nothing is found."""
        if kind.namespaced and verb in ("create", "patch") and self.table.get(kinds.NAMESPACE, "", namespace) is None:
            raise answer.not_found(kinds.NAMESPACE, namespace)

    def _there(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self.table.get(kind, namespace, name)
        if found is None:
            raise answer.not_found(kind, name)
        return found

    def _list(self, kind: Kind, namespace: str, asked: Asked) -> Object:
        selected = by_query(asked.query.get("labelSelector", ""), asked.query.get("fieldSelector", ""))
        token, limit = asked.query.get("continue", ""), int(asked.query.get("limit", 0))
        if token and token not in self.pages:
            raise answer.Refusal(410, "Expired", _TOO_OLD)
        if token:
            version, every = self.pages.pop(token)
        else:
            found = self.table.all(kind, namespace if kind.namespaced and namespace else None)
            version, every = self.table.version, sorted(found, key=_name)
        metadata: Object = {"resourceVersion": str(version)}
        chosen = [number for number, each in enumerate(every) if selected(each)]
        end = chosen[limit - 1] + 1 if limit and len(chosen) >= limit else len(every)
        page = [every[number] for number in chosen if number < end]
        if end < len(every):  # also where nothing of the rest is selected: the server does not know that yet
            self._number += 1
            self.pages[f"page-{self._number}"] = (version, every[end:])
            metadata["continue"] = f"page-{self._number}"
            if not {"labelSelector", "fieldSelector"} & asked.query.keys():
                metadata["remainingItemCount"] = len(every) - end
        if bare(asked):
            head: Object = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
            return head | {"items": [partial(each) for each in page]}
        items = [{key: value for key, value in each.items() if key not in ("apiVersion", "kind")} for each in page]
        return {"kind": f"{kind.name}List", "apiVersion": kind.api, "metadata": metadata, "items": items}

    def _create(self, kind: Kind, namespace: str, asked: Asked) -> Object:
        body = _body(asked)
        metadata = dict(body.get("metadata") or {})
        if not metadata.get("name"):
            if not metadata.get("generateName"):
                raise answer.invalid(kind, "", "metadata.name", "Required value: name or generateName is required")
            metadata["name"] = metadata["generateName"] + "".join(self._chance.choices(_LETTERS, k=5))
        if self.table.get(kind, namespace, metadata["name"]) is not None:
            raise answer.exists(kind, metadata["name"])
        new = defaults.filled(kind, body | {"metadata": metadata}, self._number)
        new = applying.claimed(new, _manager(asked), "Update", applying.written(new, {}), kind.api)
        return self._store(kind, namespace, None, new, asked)

    def _replace(self, kind: Kind, namespace: str, name: str, subresource: str, asked: Asked) -> Object:
        old, body = self._there(kind, namespace, name), _body(asked)
        return self._update(kind, namespace, old, body, subresource, asked)

    def _patch(self, kind: Kind, namespace: str, name: str, subresource: str, asked: Asked) -> tuple[int, Object]:
        content, body = asked.headers.get("content-type", ""), _body(asked)
        old = self.table.get(kind, namespace, name)
        if content == APPLY:
            force = asked.query.get("force") == "true"
            if "fieldManager" not in asked.query:
                raise answer.bad("PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
            new = applying.apply(kind, old, body, _manager(asked), force=force)
            if old is not None and _same(old, new):
                return 200, old
            return (200 if old else 201), self._store(kind, namespace, old, new, asked)
        if content not in (MERGE, "application/strategic-merge-patch+json"):
            raise answer.Refusal(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
        if old is None:
            raise answer.not_found(kind, name)
        merge = applying.patched if content == MERGE else applying.merged
        new = merge(old, body)
        if (body.get("metadata") or {}).get("resourceVersion") is None:
            new = new | {"metadata": new["metadata"] | {"resourceVersion": old["metadata"]["resourceVersion"]}}
        return 200, self._update(kind, namespace, old, new, subresource, asked)

    def _update(self, kind: Kind, namespace: str, old: Object, new: Object, subresource: str, asked: Asked) -> Object:
        name = old["metadata"]["name"]
        version = new.get("metadata", {}).get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise answer.conflict(kind, name, why)
        if subresource == "status":
            new = old | {"status": new.get("status", {})}
        elif subresource == "ephemeralcontainers":
            new = old | {"spec": old["spec"] | {"ephemeralContainers": new["spec"].get("ephemeralContainers", [])}}
        elif subresource == "scale":
            new = old | {"spec": old["spec"] | {"replicas": new["spec"]["replicas"]}}
        elif "status" in old:
            new = new | {"status": old["status"]}
        if _same(old, new):
            return old
        new = applying.updated(kind, old, new, _manager(asked), subresource)
        return self._store(kind, namespace, old, new, asked)

    def _store(self, kind: Kind, namespace: str, old: Object | None, new: Object, asked: Asked) -> Object:
        self._number += 1
        metadata = new["metadata"] | ({"namespace": namespace} if kind.namespaced else {})
        if old is None:
            new = defaults.admitted(kind, defaults.filled(kind, new, self._number))
            if "spec" in new and kind is not kinds.SERVICE:
                metadata["generation"] = 1
            if kind is kinds.POD:
                new = new | {"status": {"phase": "Pending", "qosClass": "Burstable"}}
            elif kind is kinds.SERVICE:
                new = new | {"status": {"loadBalancer": {}}}
            elif kind in (kinds.DEPLOYMENT, kinds.JOB, kinds.BUDGET, kinds.NAMESPACE):
                new = new | {"status": {"phase": "Active"} if kind is kinds.NAMESPACE else {}}
        else:
            new = defaults.filled(kind, new, self._number)
            if kind is kinds.SERVICE:
                new = new | {"spec": new["spec"] | {k: old["spec"][k] for k in ("clusterIP", "clusterIPs")}}
            if "generation" in old["metadata"]:
                metadata["generation"] = old["metadata"]["generation"] + defaults.changed(old, new)
        new = new | {"metadata": metadata}
        if kind is kinds.SECRET and "stringData" in new:
            new = _encoded(new)
        defaults.check(kind, old, new)
        if old is None and kind is kinds.JOB:
            new = _job(new, self._number)
        if asked.query.get("dryRun"):
            own = {"uid": old["metadata"]["uid"] if old else str(uuid4()), "creationTimestamp": now()}
            return {"apiVersion": kind.api, "kind": kind.name} | new | {"metadata": own | metadata}
        return self.table.put(kind, new)

    def _delete(self, kind: Kind, namespace: str, name: str, options: Object) -> Object:
        found = self._there(kind, namespace, name)
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted and wanted != found["metadata"]["uid"]:
            raise answer.another(kind, name, wanted, found["metadata"]["uid"])
        group = kind.api.rpartition("/")[0]
        details = {"name": name} | ({"group": group} if group else {}) | {"kind": kind.plural}
        if kind is kinds.POD:
            return self.end(found, options.get("gracePeriodSeconds"))
        self.remove(kind, found)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": details | {"uid": found["metadata"]["uid"]}}  # fmt: skip

    def remove(self, kind: Kind, found: Object) -> None:
        """Delete an object, as a request or its owner's end does."""
        metadata = found["metadata"]
        if kind is kinds.POD:
            self.end(found, None)
            return
        if kind is kinds.NAMESPACE:
            for each in kinds.EVERY:
                for inner in self.table.all(each, metadata["name"]) if each.namespaced else ():
                    self.remove(each, inner)
        self.table.remove(kind, metadata.get("namespace", ""), metadata["name"])

    def end(self, pod: Object, grace: int | None) -> Object:
        """Ask a pod to end: it is there until its kubelet says that it did, where it has one and anything runs."""
        metadata = pod["metadata"]
        seconds = pod["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
        if not pod["spec"].get("nodeName") or pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
            self.table.remove(kinds.POD, metadata["namespace"], metadata["name"])
            return pod
        if seconds >= metadata.get("deletionGracePeriodSeconds", seconds + 1):
            return pod
        ending = {
            "deletionTimestamp": metadata.get("deletionTimestamp") or now(),
            "deletionGracePeriodSeconds": seconds,
        }
        return self.table.put(kinds.POD, pod | {"metadata": metadata | ending})


def partial(found: Object) -> Object:
    """Return an object as who asks for metadata only gets it."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": found["metadata"]}


def bare(asked: Asked) -> bool:
    """Return whether a request is for metadata only."""
    return "as=PartialObjectMetadata" in asked.headers.get("accept", "")


def _name(found: Object) -> tuple[str, str]:
    return found["metadata"].get("namespace", ""), found["metadata"]["name"]


def _manager(asked: Asked) -> str:
    return asked.query.get("fieldManager") or asked.headers.get("user-agent", "unknown").partition("/")[0]


def _body(asked: Asked) -> Object:
    try:
        found = json.loads(asked.body or b"{}")
    except ValueError as error:
        raise answer.unreadable(str(error)) from error
    if not isinstance(found, dict):
        raise answer.unreadable("cannot unmarshal into Go value")
    return found


def _same(old: Object, new: Object) -> bool:
    """Return whether nothing but who says so differs."""

    def of(found: Object) -> Object:
        apart = ("managedFields", "resourceVersion")
        return found | {"metadata": {k: v for k, v in found["metadata"].items() if k not in apart}}

    return of(old) == of(new)


def _encoded(found: Object) -> Object:
    texts = {key: b64encode(value.encode()).decode() for key, value in found["stringData"].items()}
    return {k: v for k, v in found.items() if k != "stringData"} | {"data": (found.get("data") or {}) | texts}


def _job(found: Object, number: int) -> Object:
    """Give a Job's pods the labels by which it finds them."""
    own = {
        "batch.kubernetes.io/controller-uid": f"job-{number}",
        "batch.kubernetes.io/job-name": found["metadata"]["name"],
    }
    template = found["spec"]["template"]
    metadata = template.get("metadata") or {}
    labels = own | (metadata.get("labels") or {})
    selector = {"matchLabels": {"batch.kubernetes.io/controller-uid": f"job-{number}"}}
    found = found | {"metadata": {"labels": labels} | found["metadata"]}
    spec = found["spec"] | {"selector": selector, "template": template | {"metadata": metadata | {"labels": labels}}}
    return found | {"spec": spec}
