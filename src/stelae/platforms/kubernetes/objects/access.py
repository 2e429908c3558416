"""The least that a controller may do in a namespace: a Role, and who has it."""

from __future__ import annotations

from collections.abc import Sequence

from stelae.platforms.kubernetes import names
from stelae.platforms.kubernetes.objects.place import Object

_RBAC = "rbac.authorization.k8s.io"
_WATCH = ("get", "list", "watch")
_KEEP = (*_WATCH, "create", "patch", "delete")

_RULES: tuple[tuple[str, tuple[str, ...], Sequence[str]], ...] = (
    ("apps", ("deployments",), _KEEP),
    ("batch", ("jobs",), _KEEP),
    ("policy", ("poddisruptionbudgets",), _KEEP),
    ("", ("configmaps", "services"), _KEEP),
    ("", ("secrets",), _KEEP),
    ("", ("pods",), _KEEP),  # debug sessions are pods; a victim is told by an annotation
    ("", ("pods/log",), ("get",)),
    ("", ("pods/attach",), ("create", "get")),  # by GET before Kubernetes 1.35 looked for "create"
    ("", ("events",), ("get", "list")),  # why a pod does not start
    ("", ("namespaces",), ("get", "patch")),  # of this one only, whose annotations list the images of releases
    ("metrics.k8s.io", ("pods",), ("list",)),  # what instances use, where they are scaled by it
    ("discovery.k8s.io", ("endpointslices",), (*_WATCH, "delete")),  # those that lead a Service elsewhere
)
_ROUTES = ("gateway.networking.k8s.io", ("httproutes",))


def access(namespace: str, *, gateway: bool, user: str = "") -> tuple[Object, ...]:
    """Return the Role in *namespace* and its binding to *user*, or to a service account ``stelae`` that is made for
    it where no user is named. With *gateway* it may keep HTTPRoutes, and else only see that
    there are none."""
    subject = (
        {"apiGroup": _RBAC, "kind": "User", "name": user}
        if user
        else {"kind": "ServiceAccount", "name": names.MANAGER, "namespace": namespace}
    )
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named(namespace),
               "automountServiceAccountToken": False}  # fmt: skip
    rules = [
        {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
        for group, resources, verbs in (*_RULES, (*_ROUTES, _KEEP if gateway else _WATCH))
    ]
    return (
        *([] if user else [account]),
        {"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": _named(namespace), "rules": rules},
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": _named(namespace),
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": names.MANAGER},
            "subjects": [subject],
        },
    )


def _named(namespace: str) -> Object:
    labels = {"app.kubernetes.io/managed-by": names.MANAGER}
    return {"name": names.MANAGER, "namespace": namespace, "labels": labels}
