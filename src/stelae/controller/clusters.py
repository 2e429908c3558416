"""Use cases that print what goes to a cluster and send nothing there: for people who let others apply it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anyio import to_thread

from stelae.controller import plans, references
from stelae.controller.record import Record
from stelae.core import request as asking
from stelae.core.traffic import entry
from stelae.domain.allocation import FULL_WEIGHT
from stelae.domain.digest import Digest
from stelae.domain.errors import InvalidInput
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.release import Release
from stelae.domain.state import EnvironmentState
from stelae.platforms.kubernetes import names, objects

Json = dict[str, Any]


class Clusters:
    """Answers what an environment is on its cluster. *installation* is what the objects of this record are known by;
    *config* gives the OCI configuration of an image."""

    def __init__(
        self, record: Record, installation: Callable[[], str], config: Callable[[Digest], Mapping[str, Any]]
    ) -> None:  # fmt: skip
        self._record = record
        self._installation = installation
        self._config = config

    async def render(self, request: Json) -> Json:
        """See ``Service.render``."""
        env = references.environment(self._record.state, request["environment"])
        choice = _on_cluster(env)
        release = self._release(env, request)
        found = objects.Placed(
            installation=self._installation(), environment=env.id, choice=choice,
            image=objects.image_reference(choice, release.app, release.image),
            config=await to_thread.run_sync(self._config, release.image),
        )  # fmt: skip
        return {
            **_answer(env, choice, _all(found, env, release)), "release": release.id, "image": release.image,
            "secret": names.secret_name(release) if release.secrets else "", "secrets": dict(release.secrets),
        }  # fmt: skip

    async def cluster_setup(self, environment: str, what: str, user: str) -> Json:
        """See ``Service.cluster_setup``."""
        env = references.environment(self._record.state, environment)
        choice = _on_cluster(env)
        if what == "policy":
            return _answer(env, choice, list(objects.policy(self._installation(), choice.namespace)))
        found = objects.access(choice.namespace, gateway=bool(choice.gateway), user=user)
        return _answer(env, choice, list(found))

    def _release(self, env: EnvironmentState, request: Json) -> Release:
        if request["image"] or request["release"] or request["commit"]:
            return plans.asked_release(self._record.state, env, request)
        if env.stable is None:
            raise InvalidInput(f"nothing serves in {env.id}", hint="name what to render: --ref, --image or --release")
        return env.releases[env.stable]


def _on_cluster(env: EnvironmentState) -> PlatformChoice:
    choice = asking.config(env).platform
    if choice.kind is not PlatformKind.KUBERNETES:
        raise InvalidInput(
            f"{env.id} is not on a cluster",
            hint='let it be in stelae.toml: platform = { kind = "kubernetes", … } (docs/kubernetes.md)',
        )
    return choice


def _answer(env: EnvironmentState, choice: PlatformChoice, found: list[objects.Object]) -> Json:
    return {"environment": env.id, "namespace": choice.namespace, "objects": found}


def _all(place: objects.Placed, env: EnvironmentState, release: Release) -> list[objects.Object]:
    """Return what *release* is when it alone serves, each object once."""
    found: list[objects.Object] = []
    for name, count in sorted(env.wanted.items()):
        process = release.process(name)
        if process is not None:
            found += [one for one in objects.objects_of(place, release, process, count) if one not in found]
    serving = entry(release)
    if serving is None or serving.name not in env.wanted:
        return found
    found.append(objects.service(place, serving.name, [release.id]))
    if place.choice.gateway:
        hosts = asking.config(env).routed_hosts
        found.append(objects.release_service(place, release.id, serving.name))
        found += objects.routes(place, serving.name, {release.id: FULL_WEIGHT}, hosts)
    return found
