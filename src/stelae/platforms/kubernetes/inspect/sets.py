"""What differs of an environment's sets: their Deployments, budgets, settings and secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from stelae.core.native import of_key
from stelae.domain.action import Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Drift, Finding
from stelae.domain.observation import SetKey
from stelae.domain.release import Release, ReleaseId
from stelae.platforms.kubernetes import kinds, names, objects
from stelae.platforms.kubernetes.belonging import set_of
from stelae.platforms.kubernetes.ground import Named
from stelae.platforms.kubernetes.inspect.compare import Difference, differences
from stelae.platforms.kubernetes.inspect.look import Look, by, name_of, told
from stelae.platforms.kubernetes.kinds import Kind, Object
from stelae.platforms.kubernetes.pods import instant, is_ending, label

_EVER = 2**62


@dataclass(slots=True)
class Content:
    """What was read of settings and secrets: where each version differs, by its uid and resource version."""

    read: dict[tuple[str, str], tuple[Difference, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class Wrong:
    """What is to be put right: the objects that differ, the sets that they are of, and since when and until
    when each of the settings and secrets that differ was there; and the pods that nothing keeps."""

    objects: set[Named] = field(default_factory=set)
    sets: set[SetKey] = field(default_factory=set)
    since: dict[Named, tuple[int, int]] = field(default_factory=dict)
    strays: set[InstanceId] = field(default_factory=set)


async def deployments(look: Look, wrong: Wrong) -> AsyncIterator[Finding]:
    """Yield what differs of the Deployments, also of versions that were put right meanwhile."""
    there = {found["metadata"]["name"]: found for found in await look.of(kinds.DEPLOYMENT)}
    suspects = [each for each in look.suspects if each["kind"] == kinds.DEPLOYMENT.name]
    for found in (*there.values(), *suspects):
        known, name = look.of_set(found), found["metadata"]["name"]
        if is_ending(found):
            continue
        if known is None or set_of(found) != name:
            yield by(Finding(kind=Drift.UNKNOWN, what=f"Deployment {name} is no set that is recorded"), found)
            continue
        which = await look.differences(found, await look.set_of(*known))
        if which:
            if there.get(name) is found:
                wrong.objects.add((kinds.DEPLOYMENT, name))
                wrong.sets.add((known[0].id, known[1].name))
            yield told(Drift.SETTINGS, await _whole(look, found), which)
        if finding := _of_count(look, found, theirs=any(found is each for each in suspects)):
            yield finding
    for key in look.env.sets:
        release, process = of_key(key)
        name = names.set_name(look.env.id, release, process)
        if release in look.env.releases and name not in there:
            yield Finding(kind=Drift.SETTINGS, what=f"Deployment {name} is not there")


def _of_count(look: Look, found: Object, *, theirs: bool) -> Finding | None:
    """What others wrote (*theirs*) differs also while an act puts it right; what is there may be before that act."""
    key = (ReleaseId(label(found, names.RELEASE)), label(found, names.PROCESS))
    should, count = look.env.sets.get("/".join(key)), found["spec"].get("replicas", 1)
    acts = [act for act in look.env.pending.values() if (act.release, act.process) == key]
    counts = [act.count for act in acts if act.verb is Verb.ENSURE_SET]
    if should is None or count in (should, *counts) or (counts and not theirs):
        return None
    name = found["metadata"]["name"]
    finding = Finding(kind=Drift.SETTINGS, what=f"Deployment {name} was told to have {count} instances, not {should}")
    return by(finding, found)


async def _whole(look: Look, found: Object) -> Object:
    """Return the same version with all that is known of who wrote it, where it is still there."""
    asked = await look.ground.cluster.get(kinds.of(found), found["metadata"]["name"])
    same = asked is not None and asked["metadata"]["uid"] == found["metadata"]["uid"]
    return asked if asked is not None and same and asked.get("spec") == found.get("spec") else found


async def budgets(look: Look, wrong: Wrong) -> AsyncIterator[Finding]:
    """Yield what differs of what protects sets while a cluster is maintained."""
    there = {found["metadata"]["name"]: found for found in await look.of(kinds.BUDGET)}
    place = look.ground.place()
    for key in sorted(_sets(look, await look.of(kinds.DEPLOYMENT)), key=str):
        name = names.budget_name(look.env.id, key[1])
        if (kinds.BUDGET, name) in wrong.objects:
            continue
        found = there.get(name)
        if found is None:
            finding = Finding(kind=Drift.SETTINGS, what=f"PodDisruptionBudget {name} is not there")
        elif which := await look.differences(found, objects.budget(place, key[1])):
            finding = told(Drift.SETTINGS, await _whole(look, found), which)
        else:
            continue
        wrong.objects.add((kinds.BUDGET, name))
        wrong.sets.add(key)
        yield finding


async def contents(look: Look, content: Content, wrong: Wrong) -> AsyncIterator[Finding]:
    """Yield which settings and secrets are not there, or are not what their names say. They are read when they are
    new; their values are nowhere afterwards."""
    sets = _sets(look, await look.of(kinds.DEPLOYMENT))
    for kind, name, release in _needed(look, sets):
        found = next((each for each in await look.of(kind) if each["metadata"]["name"] == name), None)
        keys = [key for key in sets if name in _names(look.env.releases[key[0]]).values()]
        for gone in _gone(look, kind, name, found):
            until = _made(found) if found is not None else _EVER
            wrong.since[kind, name] = (_made(gone), until)
            yield _false(gone, ("it is gone again",))
        if found is None:
            wrong.objects.add((kind, name))
            wrong.sets.update(keys)
            yield Finding(kind=Drift.SETTINGS, what=f"{kind.name} {name} is not there")
            continue
        which = await _read(look, content, kind, found, release)
        if which:
            wrong.objects.add((kind, name))
            wrong.sets.update(keys)
            wrong.since[kind, name] = (_made(found), _EVER)
            yield _false(found, tuple(f"{each.field} differs" for each in which))


def _gone(look: Look, kind: Kind, name: str, found: Object | None) -> list[Object]:
    """Those that somebody else made under that name, and that are gone already."""
    uid = found["metadata"]["uid"] if found is not None else ""
    every = [each for each in look.suspects if (each["kind"], each["metadata"]["name"]) == (kind.name, name)]
    return [each for each in every if each["metadata"]["uid"] != uid]


def _made(found: Object) -> int:
    return instant(found["metadata"].get("creationTimestamp", ""))


def _false(found: Object, lines: tuple[str, ...]) -> Finding:
    return by(Finding(kind=Drift.SETTINGS, what=f"{name_of(found)} is not what its name says", evidence=lines), found)


async def _read(
    look: Look, content: Content, kind: Kind, found: Object, release: Release
) -> tuple[Difference, ...]:  # fmt: skip
    metadata = found["metadata"]
    version = (metadata["uid"], metadata["resourceVersion"])
    if version not in content.read or look.thorough:
        whole = await look.ground.cluster.get(kind, metadata["name"])
        place = look.ground.place()
        if kind is kinds.SECRET:
            should = objects.secret(place, release, await look.ground.supplies.values(release))
        else:
            should = objects.settings(place, release)
        assert should is not None, "what names it has it"
        parts = ("data", "binaryData", "immutable")
        one, other = ({key: each[key] for key in parts if key in each} for each in (whole or {}, should))
        which = tuple(Difference(each.path, None, None) for each in differences(one, other))  # and no value
        if kind is kinds.CONFIG_MAP or whole is not None:
            content.read[version] = which
        return which
    return content.read[version]


def _sets(look: Look, there: tuple[Object, ...]) -> list[SetKey]:
    found = []
    for each in there:
        known = look.of_set(each)
        if known is not None and set_of(each) == each["metadata"]["name"] and not is_ending(each):
            found.append((known[0].id, known[1].name))
    return found


def _names(release: Release) -> Mapping[Kind, str]:
    found = {kinds.CONFIG_MAP: names.settings_name(release)} if release.settings else {}
    return found | ({kinds.SECRET: names.secret_name(release)} if release.secrets else {})


def _needed(look: Look, sets: list[SetKey]) -> list[tuple[Kind, str, Release]]:
    found = {}
    for release, _ in sets:
        for kind, name in _names(look.env.releases[release]).items():
            found[kind, name] = look.env.releases[release]
    return [(kind, name, release) for (kind, name), release in found.items()]


def wrong_for(release: Release, wrong: Wrong) -> list[tuple[Named, tuple[int, int]]]:
    """Return those of the settings and secrets of *release* that differ, and since and until when they were there."""
    return [(named, wrong.since[named]) for named in _names(release).items() if named in wrong.since]
