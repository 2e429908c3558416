"""What a server adds to an object that says nothing of it, and what it lets nobody change. As recorded."""

from __future__ import annotations

import json
from typing import Any, Final

from stelae.platforms.kubernetes import kinds
from stelae.platforms.kubernetes.kinds import Kind, Object
from stelae.testing.kubernetes import answer

_POD: Final[Object] = {
    "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
    "securityContext": {}, "terminationGracePeriodSeconds": 30,
}  # fmt: skip
_ALONE: Final[Object] = {
    "preemptionPolicy": "PreemptLowerPriority", "priority": 0,
    "serviceAccount": "default", "serviceAccountName": "default",
    "tolerations": [
        {"effect": "NoExecute", "key": f"node.kubernetes.io/{what}", "operator": "Exists", "tolerationSeconds": 300}
        for what in ("not-ready", "unreachable")
    ],
}  # fmt: skip
_CONTAINER: Final[Object] = {
    "resources": {}, "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
}  # fmt: skip
_PROBE: Final[Object] = {"failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1}
_DEPLOYMENT: Final[Object] = {
    "progressDeadlineSeconds": 600, "replicas": 1, "revisionHistoryLimit": 10,
    "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}, "type": "RollingUpdate"},
}  # fmt: skip
_JOB: Final[Object] = {
    "backoffLimit": 6, "completionMode": "NonIndexed", "completions": 1, "manualSelector": False, "parallelism": 1,
    "podReplacementPolicy": "TerminatingOrFailed", "suspend": False,
}  # fmt: skip
_SERVICE: Final[Object] = {
    "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
    "sessionAffinity": "None", "type": "ClusterIP",
}  # fmt: skip

_OF_POD: Final = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
    "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
    "previously negative)"
)

_FIXED: Final[dict[Kind, tuple[str, ...]]] = {
    kinds.DEPLOYMENT: ("selector",),
    kinds.JOB: ("selector", "template", "completions", "completionMode"),
    kinds.SERVICE: ("clusterIP",),
}


def admitted(kind: Kind, found: Object) -> Object:
    """Return *found* with what the admission of a pod adds, which no manager is recorded for."""
    return found | {"spec": _ALONE | found["spec"]} if kind is kinds.POD else found


def filled(kind: Kind, found: Object, number: int) -> Object:
    """Return *found* with what is left out; *number* makes a Service's address."""
    spec = found.get("spec", {})
    if kind is kinds.POD:
        return found | {"spec": {"enableServiceLinks": True} | _pod(spec)}
    if kind is kinds.DEPLOYMENT:
        return found | {"spec": _DEPLOYMENT | spec | {"template": _template(spec.get("template", {}))}}
    if kind is kinds.JOB:
        return found | {"spec": _JOB | spec | {"template": _template(spec.get("template", {}))}}
    if kind is kinds.SERVICE:
        address = f"10.96.{number // 250 % 250 + 1}.{number % 250 + 1}"
        ports = [{"protocol": "TCP", "targetPort": port["port"]} | port for port in spec.get("ports", ())]
        own = {"clusterIP": address, "clusterIPs": [address]}
        return found | {"spec": own | _SERVICE | spec | {"ports": ports}}
    if kind is kinds.SECRET:
        return {"type": "Opaque"} | found
    return found


def check(kind: Kind, old: Object | None, new: Object) -> None:
    """Raise Refusal where *new* may not take the place of *old*, or may not be at all."""
    name, spec = new["metadata"]["name"], new.get("spec", {})
    if kind is kinds.DEPLOYMENT:
        labels = spec["template"].get("metadata", {}).get("labels") or {}
        wanted = (spec.get("selector") or {}).get("matchLabels") or {}
        if not wanted:
            raise answer.invalid(kind, name, "spec.selector", "Required value")
        if not wanted.items() <= labels.items():
            shown = json.dumps(labels, separators=(",", ":"))
            why = f"Invalid value: {shown}: `selector` does not match template `labels`"
            raise answer.invalid(kind, name, "spec.template.metadata.labels", why)
    if old is None:
        return
    if old.get("immutable") and any(old.get(key) != new.get(key) for key in ("data", "binaryData", "immutable")):
        raise answer.invalid(kind, name, "data", "Forbidden: field is immutable when `immutable` is set")
    for field in _FIXED.get(kind, ()):
        if old["spec"].get(field) != spec.get(field):
            raise answer.invalid(kind, name, f"spec.{field}", "Invalid value: field is immutable")
    if kind is kinds.POD and _frozen(old["spec"]) != _frozen(spec):
        why = f"Forbidden: pod updates may not change fields other than {_OF_POD}"
        raise answer.invalid(kind, name, "spec", why)


def changed(old: Object, new: Object) -> bool:
    """Return whether an update is more than of metadata and status: such a one makes another generation."""
    apart = ("metadata", "status")
    return {k: v for k, v in old.items() if k not in apart} != {k: v for k, v in new.items() if k not in apart}


def _template(template: Object) -> Object:
    return template | {"spec": _pod(template.get("spec", {}))}


def _pod(spec: Object) -> Object:
    return _POD | spec | {"containers": [_container(each) for each in spec.get("containers", ())]}


def _container(found: Object) -> Object:
    image = found.get("image", "")
    policy = "Always" if "@" not in image and image.endswith(":latest") else "IfNotPresent"
    result: dict[str, Any] = {"imagePullPolicy": policy} | _CONTAINER | found
    if "ports" in found:
        result["ports"] = [{"protocol": "TCP"} | port for port in found["ports"]]
    if "readinessProbe" in found:
        result["readinessProbe"] = probe = _PROBE | found["readinessProbe"]
        if "httpGet" in probe:
            probe["httpGet"] = {"scheme": "HTTP"} | probe["httpGet"]
    return result


def _frozen(spec: Object) -> Object:
    """The part of a pod's spec that stays as it is (images may change, ephemeral containers may come)."""
    apart = ("containers", "ephemeralContainers", "activeDeadlineSeconds", "tolerations", "nodeName")
    rest = {key: value for key, value in spec.items() if key not in apart}
    containers = [{key: value for key, value in one.items() if key != "image"} for one in spec.get("containers", ())]
    return rest | {"containers": containers}
