"""What a cluster lets in: only pods whose images are those of recorded releases.

The list of images is a ConfigMap that Stelae keeps; a ValidatingAdmissionPolicy, which Kubernetes evaluates by
itself, reads it. Each environment of a namespace owns its own entries of the list, by a field manager of its own: so
they share it without knowing of each other.
"""

from __future__ import annotations

from collections.abc import Iterable

from stelae.domain.digest import Digest, hex_of
from stelae.domain.environment import EnvironmentId
from stelae.platforms.kubernetes import names
from stelae.platforms.kubernetes.objects.place import Object, Placed, made

_API = "admissionregistration.k8s.io/v1"
_LISTS = ("containers", "initContainers", "ephemeralContainers")


def images(place: Placed, digests: Iterable[Digest]) -> Object:
    """Return the ConfigMap with *digests*, the images of the environment's releases; to be applied by
    ``images_manager``."""
    own = {names.INSTALLATION: place.installation, "app.kubernetes.io/managed-by": names.MANAGER}
    head = made(place, "v1", "ConfigMap", names.images_name(place.installation), own)
    return head | {"data": {hex_of(digest): "" for digest in sorted(set(digests))}}


def images_manager(environment: EnvironmentId) -> str:
    """Return the field manager that owns the images of *environment* in the list."""
    return f"{names.MANAGER}/{environment}"


def policy(installation: str, namespace: str) -> tuple[Object, ...]:
    """Return what an administrator applies once for *namespace*: the namespace at the Pod Security level restricted,
    the policy and its binding. It refuses a pod with an image that is not in the list, and one to which such an image
    is added; without the list it refuses every pod."""
    own = {names.INSTALLATION: installation, "app.kubernetes.io/managed-by": names.MANAGER}
    name = f"{names.images_name(installation)}.{namespace}"
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": levels}},
        {
            "apiVersion": _API,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name, "labels": own},
            "spec": _rules(namespace),
        },
        {
            "apiVersion": _API,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name, "labels": own},
            "spec": {
                "policyName": name,
                "paramRef": {"name": names.images_name(installation), "parameterNotFoundAction": "Deny"},
                "validationActions": ["Deny"],
            },
        },
    )


def _rules(namespace: str) -> Object:
    rule = {
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["pods", "pods/ephemeralcontainers"], "scope": "Namespaced",
    }  # fmt: skip
    # a pod whose image is not in the list any more has to be able to end: what it had already is not judged again
    unknown = (
        "variables.images.filter(image, !(image in variables.before) && !(image.split('@sha256:').size() == 2"
        " && image.split('@sha256:')[1] in variables.recorded))"
    )
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "resourceRules": [rule],
        },
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "variables": [
            {"name": "images", "expression": _images("object")},
            {"name": "before", "expression": f"oldObject == null ? [] : {_images('oldObject')}"},
            {"name": "recorded", "expression": "has(params.data) ? params.data : {}"},
            {"name": "unknown", "expression": unknown},
        ],
        "validations": [
            {
                "expression": "variables.unknown.size() == 0",
                "messageExpression": "'not the image of a recorded release: ' + variables.unknown.join(', ')",
                "message": "not the image of a recorded release",
                "reason": "Forbidden",
            }
        ],
    }


def _images(pod: str) -> str:
    """Return the CEL expression of all images of *pod*, those included that are mounted as volumes."""
    parts = [
        f"(has({pod}.spec.{name}) ? {pod}.spec.{name}.map(one, has(one.image) ? one.image : '') : [])"
        for name in _LISTS
    ]
    mounted = (
        f"(has({pod}.spec.volumes) ? {pod}.spec.volumes.filter(one, has(one.image))"
        ".map(one, has(one.image.reference) ? one.image.reference : '') : [])"
    )
    return " + ".join([*parts, mounted])
