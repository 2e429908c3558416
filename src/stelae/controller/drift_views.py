"""Drift as the API and ``stelae status`` tell it. Pure functions of what is recorded, and of an inspection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stelae.core import backoff, drift, replacing
from stelae.core.replacing import policy
from stelae.core.runs import open_runs
from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Answer, Drift, Drifted, Inspection
from stelae.domain.state import EnvironmentState
from stelae.domain.units import SECOND, Instant

Json = dict[str, Any]


def sentence(env: EnvironmentState, now: Instant | None) -> str:
    """Return what drifted in *env* and whose turn it is, "" when nothing did. Of one that is taken down its instances
    are not told: they end, and nothing is replaced."""
    name = env.id.partition("/")[2]
    found = [] if env.down else replacing.drifted(env)
    storm = env.drift.storm
    if storm is not None and not env.down:
        many = f"drift storm: {storm.found} instances drifted, {storm.of} should serve; nothing more is replaced"
        return f"{many}: see stelae verify {name}, then stelae replace {name} --drifted"
    said = []
    if found:
        who = found[0].id if len(found) == 1 else f"{len(found)} instances"
        said.append(f"{who} drifted, {_turn(env, now)}")
    if env.drift.findings:
        one = env.drift.findings[0]
        more = f" and {len(env.drift.findings) - 1} more" if len(env.drift.findings) > 1 else ""
        said.append(f"{one.instance or one.drift.value} drifted: {one.what}{more}")
    return f"{'; '.join(said)}: see stelae verify {name}" if said else ""


def _turn(env: EnvironmentState, now: Instant | None) -> str:
    if policy(env).answer is Answer.REPORT:
        return "only reported"
    waits = [
        pause.until
        for one in replacing.drifted(env)
        if (pause := env.backoff.get(backoff.key(one.release, one.process))) is not None
    ]
    if now is not None and waits and min(waits) > now:
        return f"to be replaced in {-(-(min(waits) - now) // SECOND)} s"
    return "being replaced"


def drift_view(env: EnvironmentState) -> Json:
    """Return how much of *env* drifted, for its row of the status."""
    storm = env.drift.storm
    return {
        "instances": len(replacing.drifted(env)),
        "others": len(env.drift.findings),
        "policy": policy(env).answer.value,
        "storm": None if storm is None else {"at": storm.at, "found": storm.found, "of": storm.of},
    }


def inspected_view(before: EnvironmentState, env: EnvironmentState, found: Inspection) -> Json:
    """Return what *found*, an inspection that began *before*, says of each thing that ran then and runs in *env*, and
    what the record knows of it."""
    recorded = drift.recorded(env)
    told = {(item.instance, item.kind, item.what[: drift.LONGEST]): item for item in found.findings}
    known = [item for one in env.instances.values() for item in one.drift] + list(env.drift.findings)
    named = {(item.instance, item.drift, item.what) for item in known}
    news = [
        Drifted(drift=kind, what=what, since=found.as_of, evidence=item.evidence, instance=name)
        for (name, kind, what), item in told.items()
        if (name, kind, what) not in named
    ]
    running = [(one.id, one.process, one.release) for one in env.instances.values()]
    runs = [(run.id, "", run.release) for run in open_runs(env)]  # a debug session drifts as it likes
    rows = [row for row in (*running, *runs) if drift.runs(before, row[0]) and drift.runs(env, row[0])]
    return {
        "environment": env.id,
        "as_of": found.as_of,
        **drift_view(env),
        "running": [
            {
                "id": name,
                "process": process,
                "release": release,
                "inspected": name in found.inspected,
                "missed": "" if name in found.inspected else found.missed.get(name, "it was not looked at"),
                "findings": _findings((*known, *news), name, recorded),
            }
            for name, process, release in rows
        ],
        "missed": found.routing_missed,
        "findings": _findings((*known, *news), InstanceId(""), recorded),
    }


def _findings(
    items: Iterable[Drifted], name: InstanceId, recorded: Iterable[tuple[InstanceId, Drift, str]]
) -> list[Json]:
    keys = set(recorded)
    return [
        {
            "drift": item.drift.value,
            "what": item.what,
            "since": item.since,
            "recorded": (item.instance, item.drift, item.what) in keys,
            "evidence": list(item.evidence),
        }
        for item in items
        if item.instance == name
    ]
