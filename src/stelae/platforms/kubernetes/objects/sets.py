"""The objects of a set: its Deployment, the settings and secrets that it names, and how it may be disturbed.

A Deployment's template is never changed, and what it names is immutable and called by its content: so what a release
is on a cluster stays what it was.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

from stelae.domain.process import Process
from stelae.domain.release import Release
from stelae.platforms.kubernetes import names
from stelae.platforms.kubernetes.objects.place import Object, Placed, identity, labels, made
from stelae.platforms.kubernetes.objects.pod import pod_spec


def deployment(place: Placed, release: Release, process: Process, count: int) -> Object:
    """Return the Deployment of *count* instances of *process* of *release*; raises what ``pod_spec`` raises."""
    own = labels(place, release.id, process.name)
    spec: Object = {
        "replicas": count,
        "revisionHistoryLimit": 0,
        "selector": {"matchLabels": identity(place, release.id, process.name)},
        # never needed by Stelae; of one whose template a person edits no instance ends before another is ready
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": {"labels": own}, "spec": pod_spec(place, release, process)},
    }
    name = names.set_name(place.environment, release.id, process.name)
    return made(place, "apps/v1", "Deployment", name, own) | {"spec": spec}


def settings(place: Placed, release: Release) -> Object | None:
    """Return the ConfigMap with the settings of *release*, None where it has none. Releases with the same settings
    share it."""
    if not release.settings:
        return None
    head = made(place, "v1", "ConfigMap", names.settings_name(release), labels(place))
    return head | {"immutable": True, "data": dict(sorted(release.settings.items()))}


def secret(place: Placed, release: Release, values: Mapping[str, bytes]) -> Object | None:
    """Return the Secret with *values* of all secrets that *release* names, None where it names none. Releases with
    the same versions share it."""
    if not release.secrets:
        return None
    head = made(place, "v1", "Secret", names.secret_name(release), labels(place))
    data = {name: b64encode(values[name]).decode() for name in sorted(release.secrets)}
    return head | {"immutable": True, "type": "Opaque", "data": data}


def budget(place: Placed, process: str) -> Object:
    """Return what tells a cluster that is maintained how to disturb *process*, of whatever release: one instance at a
    time; those that are not ready are in nobody's way."""
    head = made(place, "policy/v1", "PodDisruptionBudget", names.budget_name(place.environment, process),
                labels(place, process=process))  # fmt: skip
    return head | {
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": identity(place, process=process)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        }
    }


def objects_of(place: Placed, release: Release, process: Process, count: int) -> tuple[Object, ...]:
    """Return what a set is, in the order in which it is applied, without its Secret."""
    found = settings(place, release)
    return (
        *([found] if found is not None else ()),
        budget(place, process.name),
        deployment(place, release, process, count),
    )
