"""What differs of an environment's pods: of instances, of runs, and of those that are neither."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace

from stelae.core import drift as core
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Drift, Finding
from stelae.domain.errors import StelaeError, Unreachable
from stelae.domain.release import Release
from stelae.domain.run import Run
from stelae.platforms.kubernetes import kinds, names, objects
from stelae.platforms.kubernetes.belonging import is_of_its_set, is_stray, keeper
from stelae.platforms.kubernetes.cache import spec_digest
from stelae.platforms.kubernetes.inspect.authors import author
from stelae.platforms.kubernetes.inspect.compare import Difference, differences
from stelae.platforms.kubernetes.inspect.look import Look, by, told
from stelae.platforms.kubernetes.inspect.normal import own
from stelae.platforms.kubernetes.inspect.sets import Wrong, wrong_for
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.pods import current, instant, is_ending, is_over, label

_MOST = 5000
_SECOND = 1_000_000  # of an API's time, which has whole seconds

Key = tuple[str, str]
"""What a pod should be, and the digest of what it is."""


@dataclass(slots=True)
class Judged:
    """Results of inspections: which instances were looked at, why others were not, and the differences of specs that
    were compared before (all pods of a set have the same one)."""

    inspected: set[InstanceId] = field(default_factory=set)
    missed: dict[InstanceId, str] = field(default_factory=dict)


Specs = dict[Key, tuple[Difference, ...]]


async def pods(look: Look, wrong: Wrong, specs: Specs, judged: Judged) -> AsyncIterator[Finding]:
    """Yield what differs of each pod."""
    env = look.env
    for pod in await look.of(kinds.POD):
        if is_ending(pod) or is_over(pod):
            continue
        if label(pod, names.RUN):
            name = InstanceId(label(pod, names.RUN))
            run = env.runs.get(name)
            if run is None:
                yield await _who(look, _unknown(pod, f"is of a run that no event explains: {name}"), pod)
            elif run.debug is None and not _is_of(pod, look, run):
                yield await _who(look, _unknown(pod, f"says that it is of the run {name}, and is not"), pod)
            elif core.runs(env, name):
                async for finding in _of_run(look, pod, run, specs, judged):
                    yield finding
        elif not is_of_its_set(pod) or look.of_set(pod) is None:
            if is_stray(pod):
                wrong.strays.add(InstanceId(pod["metadata"]["name"]))
            yield await _who(look, _unknown(pod, "is of no set that is recorded"), pod)
        else:
            async for finding in _of_set(look, pod, wrong, specs, judged):
                yield finding


async def _of_set(
    look: Look, pod: Object, wrong: Wrong, specs: Specs, judged: Judged
) -> AsyncIterator[Finding]:  # fmt: skip
    name, known = current(pod), look.of_set(pod)
    if known is None or not core.runs(look.env, name):
        return
    release, process = known
    try:
        should = (await look.set_of(release, process))["spec"]["template"]
        image = (await look.place(release)).image
        which = await _compared(look, pod, should, specs)
    except Unreachable:
        raise
    except StelaeError as error:
        judged.missed[name] = error.message
        return
    judged.inspected.add(name)
    if which:
        yield await _differs(look, pod, which, name)
    for finding in (*_put_in(pod, name), *_other_image(pod, image, name), *_misled(pod, release, wrong, name)):
        yield await _who(look, finding, pod)


async def _of_run(
    look: Look, pod: Object, run: Run, specs: Specs, judged: Judged
) -> AsyncIterator[Finding]:  # fmt: skip
    release = look.env.releases[run.release]
    try:
        place = await look.place(release)
        which = await _compared(look, pod, objects.job(place, release, run)["spec"]["template"], specs)
    except Unreachable:
        raise
    except StelaeError as error:
        judged.missed[run.id] = error.message
        return
    judged.inspected.add(run.id)
    if which:
        yield await _differs(look, pod, which, run.id)
    for finding in (*_put_in(pod, run.id), *_other_image(pod, place.image, run.id)):
        yield await _who(look, finding, pod)


async def _compared(look: Look, pod: Object, template: Object, specs: Specs) -> tuple[Difference, ...]:
    """Return where a pod is not what the server makes of *template*. Only the first of those that are alike is asked
    for as a whole."""
    metadata = template["metadata"] | {"name": keeper(pod)[1]} | _namespace(pod)
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    for again in (False, True):
        normal = await look.norms.of(made, again=again)
        key = (spec_digest(normal.spec) + str(normal.exact), pod["spec"].get("digest", ""))
        if key not in specs:
            while len(specs) >= _MOST:
                del specs[next(iter(specs))]
            whole = await look.ground.cluster.get(kinds.POD, pod["metadata"]["name"])
            if whole is None or whole["metadata"]["uid"] != pod["metadata"]["uid"]:
                return ()  # it is gone, and its end is told
            found = own(kinds.POD, whole["spec"])
            specs[key] = tuple(differences(found, normal.spec, exact=normal.exact, at=("spec",)))
        if not specs[key]:
            break
    return specs[key]


def _namespace(pod: Object) -> Mapping[str, str]:
    return {"namespace": pod["metadata"]["namespace"]} if "namespace" in pod["metadata"] else {}


async def _differs(look: Look, pod: Object, which: tuple[Difference, ...], name: InstanceId) -> Finding:
    whole = await look.ground.cluster.get(kinds.POD, pod["metadata"]["name"])
    kind = Drift.PROCESS if any(each.path[-1] == "image" for each in which) else Drift.SETTINGS
    return told(kind, whole or pod, which, name)


def _put_in(pod: Object, name: InstanceId) -> Iterator[Finding]:
    """Containers that somebody put into a pod that ran."""
    for each in pod["spec"].get("ephemeralContainers") or ():
        what = f"somebody put the container {each['name']} into it, of the image {each.get('image')}"
        yield Finding(kind=Drift.PROCESS, what=what, instance=name)


def _other_image(pod: Object, image: str, name: InstanceId) -> Iterator[Finding]:
    """What a node says it runs, where that is not what it was told to."""
    wanted = image.rpartition("@")[2] if "@" in image else ""
    for each in pod.get("status", {}).get("containerStatuses") or ():
        runs = each.get("imageID", "")
        if each.get("name") == objects.CONTAINER and wanted and runs and "running" in (each.get("state") or {}):
            digest = runs.rpartition("@")[2]
            if digest != wanted:
                what = f"its node runs another image than that of its release: {digest}"
                yield Finding(kind=Drift.PROCESS, what=what, instance=name, evidence=(f"it should be {wanted}",))


def _misled(pod: Object, release: Release, wrong: Wrong, name: InstanceId) -> Iterator[Finding]:
    """Those of the settings and secrets that differ which were there when a pod's container began."""
    began = max((_began(each) for each in pod.get("status", {}).get("containerStatuses") or ()), default=0)
    for (kind, called), (since, until) in wrong_for(release, wrong):
        if began and since - _SECOND < began <= until:
            what = f"it began with {kind.name} {called}, which is not what its name says"
            yield Finding(kind=Drift.SETTINGS, what=what, instance=name)


def _began(status: Object) -> int:
    return instant(((status.get("state") or {}).get("running") or {}).get("startedAt") or "")


def _is_of(pod: Object, look: Look, run: Run) -> bool:
    return keeper(pod) == (kinds.JOB.name, names.run_name(look.env.id, run.id))


def _unknown(pod: Object, why: str) -> Finding:
    kind, name = keeper(pod)
    evidence = (f"{kind} {name} keeps it",) if kind else ("nothing keeps it",)
    return Finding(kind=Drift.UNKNOWN, what=f"Pod {pod['metadata']['name']} {why}", evidence=evidence)


async def _who(look: Look, finding: Finding, pod: Object) -> Finding:
    """Return *finding* with who wrote the pod, which only the whole of it says."""
    whole = await look.ground.cluster.get(kinds.POD, pod["metadata"]["name"])
    if whole is None or whole["metadata"]["uid"] != pod["metadata"]["uid"]:
        return finding
    path = ("spec", "ephemeralContainers") if "into it" in finding.what else ()
    who = author(whole, path)
    if path and who:
        return replace(finding, evidence=(*finding.evidence, f"by {who}"))
    return by(finding, whole)
