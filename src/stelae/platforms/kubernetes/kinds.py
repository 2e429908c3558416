"""The kinds of objects that Stelae has to do with, and where the API has them.

Format: https://kubernetes.io/docs/reference/using-api/api-concepts/ ("Resource URIs").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from stelae.domain.errors import InvalidInput

Object: TypeAlias = dict[str, Any]
"""An object of the API as JSON has it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. ``api`` is its group and version (``apps/v1``, ``v1``), ``plural`` its name in addresses."""

    api: str
    name: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return where the objects of *namespace* are, or the one called *name*, or a *subresource* of it."""
        parts = ["", "apis" if "/" in self.api else "api", self.api]
        if self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


POD: Final = Kind("v1", "Pod", "pods")
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
SERVICE: Final = Kind("v1", "Service", "services")
SLICE: Final = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
ROUTE: Final = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
JOB: Final = Kind("batch/v1", "Job", "jobs")
BUDGET: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
SECRET: Final = Kind("v1", "Secret", "secrets")

WATCHED: Final = (POD, DEPLOYMENT, SERVICE, SLICE, ROUTE, JOB, BUDGET, CONFIG_MAP, SECRET)
"""What the cache holds."""

BARE: Final = frozenset({CONFIG_MAP, SECRET})
"""Those of ``WATCHED`` of which only the metadata is asked for: no value is ever in the controller's memory."""

OPTIONAL: Final = frozenset({ROUTE})
"""Those of ``WATCHED`` that a cluster need not have."""

EVENT: Final = Kind("v1", "Event", "events")
POD_METRICS: Final = Kind("metrics.k8s.io/v1beta1", "PodMetrics", "pods")
REPLICA_SET: Final = Kind("apps/v1", "ReplicaSet", "replicasets")
GATEWAY: Final = Kind("gateway.networking.k8s.io/v1", "Gateway", "gateways")
NODE: Final = Kind("v1", "Node", "nodes", namespaced=False)
NAMESPACE: Final = Kind("v1", "Namespace", "namespaces", namespaced=False)
NETWORK_POLICY: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
SERVICE_ACCOUNT: Final = Kind("v1", "ServiceAccount", "serviceaccounts")
ROLE: Final = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING: Final = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
POLICY: Final = Kind(
    "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False
)
POLICY_BINDING: Final = Kind(
    "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings",
    namespaced=False,
)  # fmt: skip

EVERY: Final = (
    *WATCHED, EVENT, POD_METRICS, REPLICA_SET, GATEWAY, NODE, NAMESPACE, NETWORK_POLICY, SERVICE_ACCOUNT, ROLE,
    ROLE_BINDING, POLICY, POLICY_BINDING,
)  # fmt: skip
"""Every kind that there is here."""

_BY_NAME: Final = {(kind.api, kind.name): kind for kind in EVERY}


def of(found: Mapping[str, Any]) -> Kind:
    """Return the kind of an object by its ``apiVersion`` and ``kind``; raises InvalidInput for another."""
    key = (found.get("apiVersion"), found.get("kind"))
    for known, kind in _BY_NAME.items():
        if known == key:
            return kind
    raise InvalidInput(f"Stelae has nothing to do with objects of kind {key[1]!r} in {key[0]!r}")
