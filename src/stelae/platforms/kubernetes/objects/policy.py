"""What a cluster lets in: only pods whose images are those of recorded releases.

The list of images is in annotations of the namespace, which Stelae keeps; a ValidatingAdmissionPolicy, which
Kubernetes evaluates by itself, reads it. Each environment owns its own entries, by a field manager of its own: so the
environments of a namespace share it without knowing of each other. A ConfigMap as the policy's parameter would not
do: who may edit in a namespace may write one, and Kubernetes up to 1.36 reads an old one for ever after the policy
was made again (kubernetes/kubernetes#130887).
"""

from __future__ import annotations

from collections.abc import Iterable

from stelae.domain.digest import Digest, hex_of
from stelae.platforms.kubernetes import names
from stelae.platforms.kubernetes.objects.place import Object, Placed

_API = "admissionregistration.k8s.io/v1"
_LISTS = ("containers", "initContainers", "ephemeralContainers")
_KEY = f"image.{names.DOMAIN}/"
_HALF = 32  # the name of an annotation has no room for a whole digest: the rest of it is the value


def images(place: Placed, digests: Iterable[Digest]) -> Object:
    """Return what the namespace is to say of *digests*, the images of the environment's releases; to be applied by
    ``images_manager``, which takes away what it said before."""
    listed = {_KEY + hex_of(digest)[:_HALF]: hex_of(digest)[_HALF:] for digest in sorted(set(digests))}
    metadata = {"name": place.choice.namespace, "annotations": listed}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def images_manager(place: Placed) -> str:
    """Return the field manager that owns the images of an environment in the list: of no other installation's, which
    may have an environment of the same name."""
    return f"{names.MANAGER}/{place.installation}/{place.environment}"


def policy(installation: str, namespace: str) -> tuple[Object, ...]:
    """Return what an administrator applies once for *namespace*: the namespace at the Pod Security level restricted,
    and two policies with their bindings. One refuses a pod with an image that is not in the list, and one to which
    such an image is added. The other lets nobody change the labels of the namespace, its level among them, who may
    not delete it: to keep the list a controller has to be allowed to patch the namespace."""
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    own = {names.INSTALLATION: installation, "app.kubernetes.io/managed-by": names.MANAGER}
    return (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": levels}},
        *_bound(names.images_policy_name(namespace), own, _of_images(namespace)),
        *_bound(names.labels_policy_name(namespace), own, _of_labels(namespace)),
    )


def _bound(name: str, own: dict[str, str], spec: Object) -> tuple[Object, Object]:
    metadata = {"name": name, "labels": own}
    binding = {"policyName": name, "validationActions": ["Deny"]}
    return (
        {"apiVersion": _API, "kind": "ValidatingAdmissionPolicy", "metadata": metadata, "spec": spec},
        {"apiVersion": _API, "kind": "ValidatingAdmissionPolicyBinding", "metadata": metadata, "spec": binding},
    )


def _of_images(namespace: str) -> Object:
    # a pod whose image is not in the list any more has to be able to end: what it had already is not judged again
    unknown = (
        "variables.images.filter(image, !(image in variables.before) && !(image.matches('@sha256:[0-9a-f]{64}$') && "
        f"('{_KEY}' + image.substring(image.size() - 64, image.size() - {_HALF})) in variables.recorded && "
        f"variables.recorded['{_KEY}' + image.substring(image.size() - 64, image.size() - {_HALF})] == "
        f"image.substring(image.size() - {_HALF})))"
    )
    return {
        "failurePolicy": "Fail",
        "matchConstraints": _matching(namespace, ["CREATE", "UPDATE"], ["pods", "pods/ephemeralcontainers"]),
        "variables": [
            {"name": "images", "expression": _images("object")},
            {"name": "before", "expression": f"oldObject == null ? [] : {_images('oldObject')}"},
            {
                "name": "recorded",
                "expression": "has(namespaceObject.metadata.annotations) ? namespaceObject.metadata.annotations : {}",
            },
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


def _of_labels(namespace: str) -> Object:
    return {
        "failurePolicy": "Fail",
        "matchConstraints": _matching(namespace, ["UPDATE"], ["namespaces"]),
        "validations": [
            {
                "expression": "object.metadata.?labels.orValue({}) == oldObject.metadata.?labels.orValue({}) || "
                "authorizer.group('').resource('namespaces').namespace(object.metadata.name)"
                ".name(object.metadata.name).check('delete').allowed()",
                "message": "the labels of this namespace are changed only by those who may delete it",
                "reason": "Forbidden",
            }
        ],
    }


def _matching(namespace: str, operations: list[str], resources: list[str]) -> Object:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": operations, "resources": resources, "scope": "*"}
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "resourceRules": [rule],
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
