"""Use cases that only read what is: status, show, logs, the watch of a deployment."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

from anyio import to_thread

from stelae.controller import abilities, progress, references, views
from stelae.controller.record import Record
from stelae.controller.run_views import run_view
from stelae.core import analysis
from stelae.core.runs import as_instance
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.digest import Digest
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import InvalidInput, StelaeError
from stelae.domain.event import ActionIntended, InstanceSeen
from stelae.domain.state import EnvironmentState, InstallationState, Instance
from stelae.domain.units import Instant
from stelae.ledger.history import about
from stelae.ledger.history.index import History
from stelae.platforms.port import Platform
from stelae.system import clock

Json = dict[str, Any]

LONGEST_LOOK = 2.0
"""Seconds that a status waits for the platform: the numbers of a candidate are left out else."""

_COMMIT = re.compile(r"[0-9a-f]{4,40}")


class Queries:
    """Answers from the record."""

    def __init__(
        self, record: Record, platform: Platform, history: History, clock: Callable[[], Instant] = clock.now
    ) -> None:
        self._record = record
        self._history = history
        self._clock = clock
        self._platform = platform

    async def status(self, environment: str) -> Json:
        """See ``Service.status``."""
        state = self._record.state
        chosen = [references.environment(state, environment)] if environment else list(state.environments.values())
        rows = [await self._row(state, env) for env in chosen if env.config is not None]
        rows.sort(key=lambda row: row["app"])
        cleaned = state.cleaned
        return {
            "environments": rows,
            "record": {"size": state.size, "root": self._record.ledger.root},
            "storage": {
                "cleaned_at": cleaned.at if cleaned else None,
                "bytes": cleaned.bytes if cleaned else 0,
                "problem": cleaned.problem if cleaned else "",
            },
            "refusals": [
                {
                    "witness": name,
                    "seen": refusal.seen,
                    "size": refusal.size,
                    "at": refusal.at,
                    "problem": refusal.reason,
                }
                for name, refusal in sorted(state.refusals.items())
            ],
        }

    async def _row(self, state: InstallationState, env: EnvironmentState) -> Json:
        row = views.status_row(state, env, self._clock())
        told = await self._evidence(env)
        row = {**row, "detail": f"{row['detail']}, {told}"} if told else row
        lacks = abilities.unmeasured(self._platform, env)
        return {**row, "detail": " · ".join(filter(None, (row["detail"], lacks)))} if lacks else row

    async def _evidence(self, env: EnvironmentState) -> str:
        """Return what the candidate's requests say just now, "" where that cannot be told at once."""
        if env.rollout is None or env.rollout.strategy.analysis is None or env.rollout.held_at is None:
            return ""
        try:
            async with asyncio.timeout(LONGEST_LOOK):
                return analysis.told(env.rollout, await self._platform.observe(env))
        except (StelaeError, OSError, TimeoutError):
            return ""

    async def environments(self, app: str) -> Json:
        """See ``Service.environments``."""
        from stelae.spec.render import environment_document

        found = [
            {
                "app": env.config.app,
                "name": env.config.name,
                **environment_document(env.config),
                "wanted": dict(env.wanted),
            }
            for env in self._record.state.environments.values()
            if env.config is not None and app in ("", env.config.app)
        ]
        return {"environments": found}

    async def deployment(self, deployment: str) -> Json:
        """See ``Service.deployment``."""
        return views.deployment_view(*references.deployment(self._record.state, deployment))

    async def watch(self, deployment: str) -> AsyncIterator[Json]:
        """See ``Service.watch``."""
        last: Json | None = None
        while True:
            size = self._record.state.size
            env, found = references.deployment(self._record.state, deployment)
            if found.outcome is not None:
                yield {"result": views.deployment_view(env, found)}
                return
            now = self._progress(env, deployment)
            if now is not None and now != last:
                last = now
                yield {"progress": now}
            await self._record.changed(size)

    def _progress(self, env: EnvironmentState, deployment: str) -> Json | None:
        if env.rollout is None or env.rollout.deployment != deployment:
            return None
        view = views.rollout_view(env, env.rollout)
        return {
            "text": progress.line(env, env.rollout),
            "step": view["step"],
            "ready": view["ready"],
            "wanted": view["wanted"],
        }

    async def show(self, ref: str) -> Json:
        """See ``Service.show``."""
        state = self._record.state
        if ref.startswith("d-"):
            view = views.deployment_view(*references.deployment(state, ref))
            return {**view, "asked_for": view["kind"], "kind": "deployment"}
        for env in state.environments.values():
            if InstanceId(ref) in env.instances:
                found = views.instance_view(env.instances[InstanceId(ref)])
                return {"kind": "instance", "instance": ref, "environment": env.id, **found}
            if InstanceId(ref) in env.runs:
                return {"kind": "run", **run_view(env, env.runs[InstanceId(ref)])}
        if ref.startswith("r-"):
            return self._release(ref)
        if "/" in ref:
            stable = references.environment(state, EnvironmentId(ref)).stable
            if stable is None:
                raise InvalidInput(f"{ref} runs nothing", hint="deploy to it first: stelae deploy")
            return self._release(stable)
        commits = [
            built for built in state.images.values() if any(source.commit.startswith(ref) for source in built.sources)
        ]
        if _COMMIT.fullmatch(ref) and commits:
            return {"kind": "commit", "commit": ref, "images": [self._image(built.image.digest) for built in commits]}
        disk = references.as_disk(state, ref)
        if disk is not None:
            return {"kind": "disk", **self._disk(disk)}
        return {"kind": "image", **self._image(references.image(state, ref).image.digest)}

    def _release(self, ref: str) -> Json:
        found = []
        for env in self._record.state.environments.values():
            found += [(env, release) for name, release in env.releases.items() if name.startswith(ref)]
        if not found:
            raise InvalidInput(f"no release {ref!r}", hint="stelae history lists them")
        if len(found) > 1:
            raise InvalidInput(f"{ref!r} names {len(found)} releases", hint="give more characters")
        env, release = found[0]
        deployments = [views.deployment_view(env, d) for d in env.deployments.values() if d.release == release.id]
        return {
            "kind": "release", "release": release.id, "environment": env.id, "image": release.image,
            **({"disk": release.disk} if release.disk is not None else {}),
            "settings": dict(release.settings), "secrets": dict(release.secrets), "stable": env.stable == release.id,
            "deployments": deployments,
            "instances": [views.instance_view(i) for i in env.instances.values() if i.release == release.id],
        }  # fmt: skip

    def _image(self, digest: str) -> Json:
        state = self._record.state
        built = references.image(state, digest)
        releases = [
            {"release": release.id, "environment": env.id, "stable": env.stable == release.id}
            for env in state.environments.values()
            for release in env.releases.values()
            if release.image == built.image.digest
        ]
        disks = [name for name, made in state.disks.items() if made.disk.image == built.image.digest]
        return {**views.image_view(built), **({"disks": disks} if disks else {}), "releases": releases}

    def _disk(self, digest: Digest) -> Json:
        state = self._record.state
        made = state.disks[digest]
        releases = [
            {"release": release.id, "environment": env.id, "stable": env.stable == release.id}
            for env in state.environments.values()
            for release in env.releases.values()
            if release.disk == digest
        ]
        disk = made.disk
        return {
            "disk": digest, "image": disk.image, "raw": disk.raw, "size": disk.size, "root_hash": disk.root_hash,
            "uki": disk.uki, "kernel": disk.kernel, "commits": list(made.commits), "made_by": made.actor,
            "made_at": made.built_at, "last_made_at": made.last_built_at, "releases": releases,
        }  # fmt: skip

    async def logs(
        self, environment: str, instance: str, release: str, process: str, follow: bool
    ) -> AsyncIterator[Json]:
        """See ``Service.logs``. Lines of several instances come in the order of their times; with *follow*
        in the order in which they are written. An instance of which no output is kept is left out, unless it is the
        only one."""
        env = references.environment(self._record.state, environment)
        chosen = await self._chosen(env, instance, release, process)
        lines: asyncio.Queue[Json | None] = asyncio.Queue(maxsize=1000)

        async def pump(item: Instance) -> None:
            async for line in self._platform.logs(env.id, item, follow=follow):
                await lines.put({"instance": line.instance, "at": line.at, "stream": line.stream, "text": line.text})

        async def pump_all() -> list[BaseException]:
            results = await asyncio.gather(*(pump(item) for item in chosen), return_exceptions=True)
            await lines.put(None)
            return [result for result in results if result is not None]

        pumping = asyncio.create_task(pump_all())
        try:
            async for line in _ordered(lines, follow=follow):
                yield {"progress": line}
            for problem in await pumping:
                if len(chosen) == 1 or not isinstance(problem, StelaeError):
                    raise problem
        finally:
            pumping.cancel()

    async def _chosen(self, env: EnvironmentState, instance: str, release: str, process: str) -> list[Instance]:
        """The instances that are asked for: those that are there, or, named, those that were once."""
        wanted = references.release(env, release).id if release else ""
        named = (instance and instance not in env.instances) or wanted
        found = await self._ever(env.id, instance, wanted) if named else list(env.instances.values())
        chosen = [
            item
            for item in found
            if (not instance or item.id == instance)
            and (not wanted or item.release == wanted)
            and (not process or item.process == process)
        ]
        if not chosen and process:  # a job of that name has runs, and the last one is meant
            chosen = [as_instance(run) for run in env.runs.values() if run.job == process and run.took_place][-1:]
        if not chosen and (instance or process):
            raise InvalidInput(f"{env.id} has no instance {instance or f'of {process}'}", hint="see: stelae status")
        return chosen

    async def _ever(self, environment: EnvironmentId, instance: str, release: str) -> list[Instance]:
        """Return all that was ever launched under the name *instance*, or else of *release*."""

        def read() -> list[Instance]:
            found = []
            name = about.instance(environment, instance) if instance else about.named("r", release)
            for index in self._history.events([name]):
                [recorded] = self._record.ledger.read(index, index + 1)
                event = recorded.event
                if recorded.environment != environment:
                    continue
                if isinstance(event, InstanceSeen):
                    found.append(_launched(event, recorded.at))
                elif isinstance(event, ActionIntended) and event.action.verb is Verb.LAUNCH:
                    found.append(_launched(event.action, recorded.at))
            return found

        return await to_thread.run_sync(read)


async def _ordered(lines: asyncio.Queue[Json | None], *, follow: bool) -> AsyncIterator[Json]:
    kept: list[Json] = []
    while (line := await lines.get()) is not None:
        if follow:
            yield line
        else:
            kept.append(line)
    for line in sorted(kept, key=lambda item: int(item["at"])):
        yield line


def _launched(action: Action | InstanceSeen, at: Instant) -> Instance:
    return Instance(id=action.instance, release=action.release, process=action.process, launched_at=at)
