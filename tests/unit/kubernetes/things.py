"""What the tests of objects make them of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stelae.domain.allocation import InstanceId
from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId, environment_id
from stelae.domain.job import Job
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.process import Health, Probe, Process, Tmpfs
from stelae.domain.release import Release
from stelae.domain.run import Debug, Run, Window
from stelae.domain.units import MIB, SECOND
from stelae.platforms.kubernetes.objects import Placed, image_reference

ENVIRONMENT = EnvironmentId("guestbook/production")
WEB = Process(
    name="web", command=("serve", "--home", "$(HOME)"), port=8000, memory=64 * MIB, cpu=500,
    health=Health(probe=Probe.HTTP, path="/healthz", interval=SECOND // 2, timeout=3 * SECOND // 2),
    tmpfs=(Tmpfs(path="/tmp", size=MIB),), drain=15 * SECOND,
)  # fmt: skip
WORKER = Process(name="worker", command=("work",), health=Health(probe=Probe.RUNNING))
MIGRATE = Job(name="migrate", command=("migrate",), memory=32 * MIB)
RELEASE = Release(
    app="guestbook", environment="production", image=digest_of(b"image"), settings={"GREETING": "a $(B) $$"},
    processes=(WEB, WORKER), jobs=(MIGRATE,), secrets={"token.json": 1, "API_KEY": 3}, secret_env=("API_KEY",),
)  # fmt: skip
PLAIN = replace(RELEASE, settings={}, secrets={}, secret_env=())


def placed(
    release: Release = RELEASE, config: Mapping[str, Any] | None = None, namespace: str = "shop", gateway: str = ""
) -> Placed:
    choice = PlatformChoice(
        kind=PlatformKind.KUBERNETES, namespace=namespace, registry="registry.example.com/ours", gateway=gateway
    )
    return Placed(
        installation="stelae", environment=environment_id(release.app, release.environment), choice=choice,
        image=image_reference(choice, release.app, release.image), config=config or {},
    )  # fmt: skip


def a_run(release: Release = RELEASE, *, debug: bool = False, window: Window | None = None) -> Run:
    copied = Debug(instance=InstanceId("web-1"), process="web", window=window) if debug else None
    return Run(
        id=InstanceId("debug-c04xvt-2" if debug else "migrate-c04xvt-1"), release=release.id,
        job="" if debug else "migrate", command=("sh",) if debug else ("migrate",), actor="ada", requested_at=0,
        timeout=90 * SECOND, debug=copied,
    )  # fmt: skip
