"""The pod of an instance or a run: what Kubernetes starts, and all that it may do.

It passes the Pod Security level ``restricted``, and besides has a read-only root, no token of the API and no
variables of other Services. Kubernetes has no limit of processes for one pod (the kubelet's own counts), and its
memory file systems cannot be told ``noexec``.
"""

from __future__ import annotations

from collections.abc import Mapping

from stelae.domain.errors import Failed
from stelae.domain.process import Probe, Process
from stelae.domain.release import Release
from stelae.domain.units import SECOND, Duration
from stelae.platforms.kubernetes import names
from stelae.platforms.kubernetes.objects.place import Object, Placed
from stelae.platforms.secret_values import FOLDER
from stelae.platforms.user import user_in

CONTAINER = "app"
"""The name of a pod's one container."""

PORT = "serve"
"""The name of the port of its process."""

_LEAVING = 2 * SECOND  # by then every proxy has heard that the pod ends, so that no new request comes
_MARGIN = 2 * SECOND
_FAILURES = 3  # as many as the local platform's
_IDLE_CPU = "10m"  # what is asked for of a process without a limit: where there is a quota, something has to be
_READABLE = 0o440


def pod_spec(place: Placed, release: Release, process: Process, *, once: bool = False) -> Object:
    """Return the PodSpec of *process* of *release*; ``once`` of a run, which is never started again. Raises Failed
    when its image runs as root or as a user by name, or a memory file system covers its secrets."""
    user, group = user_in(place.config)
    if user == 0:
        raise Failed(
            "the image runs as root, which a cluster refuses by the Pod Security level restricted",
            hint="build the image with a user that is not 0",
        )
    mounts, volumes = _volumes(release, process)
    spec: Object = {
        "automountServiceAccountToken": False,
        "containers": [_container(place, release, process, mounts, once=once)],
        "enableServiceLinks": False,
        "restartPolicy": "Never" if once else "Always",
        "securityContext": {
            "fsGroup": group,
            "runAsGroup": group,
            "runAsNonRoot": True,
            "runAsUser": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": seconds(process.stop) if once else _grace(process),
    }
    return spec | ({"volumes": volumes} if volumes else {})


def seconds(time: Duration) -> int:
    """Return *time* in whole seconds, rounded up."""
    return -(-time // SECOND)


def literal(text: str) -> str:
    """Return *text* so that Kubernetes, which puts variables in place of ``$(NAME)``, hands it on as it is."""
    return text.replace("$", "$$")


def _container(
    place: Placed, release: Release, process: Process, mounts: list[Object], *, once: bool
) -> Object:  # fmt: skip
    cpu = f"{process.cpu}m" if process.cpu else ""
    memory = {"memory": str(process.memory)}
    container: Object = {
        "name": CONTAINER,
        "image": place.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [literal(word) for word in process.command],
        "env": _variables(release, process),
        "resources": {
            "limits": memory | ({"cpu": cpu} if cpu else {}),
            "requests": memory | {"cpu": cpu or _IDLE_CPU},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        },
        # so the end of its output comes with its status, also when the pod is gone
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if release.settings:
        container["envFrom"] = [{"configMapRef": {"name": names.settings_name(release)}}]
    if mounts:
        container["volumeMounts"] = mounts
    return container if once else container | _serving(process)


def _variables(release: Release, process: Process) -> list[Object]:
    """Return what stands above the image's variables and the settings: the secrets that are variables, and then
    Stelae's own words."""
    secret = names.secret_name(release)
    found: dict[str, Object] = {
        name: {"valueFrom": {"secretKeyRef": {"name": secret, "key": name}}} for name in release.secret_env
    }
    own = {
        "STELAE_APP": release.app,
        "STELAE_ENVIRONMENT": release.environment,
        "STELAE_IMAGE": release.image,
        "STELAE_PROCESS": process.name,
        "STELAE_RELEASE": release.id,
    }
    if process.port is not None:
        own["PORT"] = str(process.port)
    found |= {name: {"value": text} for name, text in own.items()}
    found["STELAE_INSTANCE"] = {"valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}
    return [{"name": name} | value for name, value in sorted(found.items())]


def _serving(process: Process) -> Object:
    """Return what a container has that gets requests: its port, the question whether it is ready, and the time in
    which it still serves although it is to end. Stelae itself decides about one that hangs."""
    if process.port is None:
        return {}
    found: Object = {
        "ports": [{"name": PORT, "containerPort": process.port, "protocol": "TCP"}],
        "lifecycle": {"preStop": {"sleep": {"seconds": seconds(max(process.drain, _LEAVING))}}},
    }
    if process.health.probe is not Probe.RUNNING:
        found["readinessProbe"] = _question(process) | {
            "periodSeconds": max(1, seconds(process.health.interval)),
            "timeoutSeconds": max(1, seconds(process.health.timeout)),
            "failureThreshold": _FAILURES,
            "successThreshold": 1,
        }
    return found


def _question(process: Process) -> Object:
    if process.health.probe is Probe.TCP:
        return {"tcpSocket": {"port": PORT}}
    return {"httpGet": {"path": process.health.path, "port": PORT, "scheme": "HTTP"}}


def _grace(process: Process) -> int:
    """How long an instance may take to end, its draining included."""
    drain = 0 if process.port is None else max(process.drain, _LEAVING)
    return seconds(drain) + seconds(process.stop + _MARGIN)


def _volumes(release: Release, process: Process) -> tuple[list[Object], list[Object]]:
    mounts: list[Object] = []
    volumes: list[Object] = []
    for number, entry in enumerate(sorted(process.tmpfs, key=lambda entry: entry.path)):
        if release.secrets and (entry.path == FOLDER or entry.path.startswith(FOLDER + "/")):
            raise Failed(f"the process {process.name} has a tmpfs at {FOLDER}, where its secrets should be")
        name = f"memory-{number}"
        volumes.append({"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": str(entry.size)}})
        mounts.append({"name": name, "mountPath": entry.path})
    if release.secrets:
        secret: Mapping[str, object] = {"secretName": names.secret_name(release), "defaultMode": _READABLE}
        volumes.append({"name": "secrets", "secret": secret})
        mounts.append({"name": "secrets", "mountPath": FOLDER, "readOnly": True})
    return mounts, volumes
