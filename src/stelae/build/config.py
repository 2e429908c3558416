"""The config and the manifest of an OCI image, as canonical bytes.

Nothing in them names a commit, a time, a machine or an environment: the same content gives the same bytes.
Source: OCI image specification 1.1, config.md and manifest.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of
from stelae.domain.image import APP_LABEL, JOBS_LABEL, PROCESSES_LABEL
from stelae.domain.job import Job
from stelae.domain.process import Process
from stelae.images.layout import CONFIG, LAYER, MANIFEST
from stelae.images.processes import encode_jobs, encode_processes
from stelae.system.architecture import architecture as architecture

FORMAT = 2
"""The builder's format: it changes when, and only when, the bytes of an image of unchanged content change."""

FILE_TIME = 1_704_067_200
"""The time of every file of an image: 2024-01-01T00:00:00Z, a constant of the format."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"LANG": "C.UTF-8", "PATH": PATH, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
"""What each image sets, where its base sets nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFile:
    """One layer of an image: the digest of its tar, which is not compressed, and its size in bytes."""

    digest: Digest
    size: int


def config_bytes(
    *,
    app: str,
    processes: tuple[Process, ...],
    layers: Sequence[LayerFile],
    user: tuple[int, int],
    workdir: str,
    environment: Sequence[str],
    jobs: tuple[Job, ...] = (),
) -> bytes:
    """Return the OCI config of an image; *user* is its uid and gid, *environment* the base's (``NAME=value``).

    An image without jobs has no label of them, and so the digest that it had before there were any.
    """
    labels = {APP_LABEL: app, PROCESSES_LABEL: encode_processes(processes)}
    if jobs:
        labels[JOBS_LABEL] = encode_jobs(jobs)
    settings = {**ENVIRONMENT, **dict(item.split("=", 1) for item in environment if "=" in item)}
    return canonical(
        {
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": f"{user[0]}:{user[1]}",
                "WorkingDir": workdir,
                "Env": [f"{name}={settings[name]}" for name in sorted(settings)],
                "Labels": labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }
    )


def manifest_bytes(config: bytes, layers: Sequence[LayerFile]) -> bytes:
    """Return the OCI manifest of the image whose config is *config*."""
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": LAYER, "digest": layer.digest, "size": layer.size} for layer in layers],
        }
    )
