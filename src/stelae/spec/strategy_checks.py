"""What the form of a strategy cannot say: which keys go with which kind, and what it names elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stelae.domain.units import SECOND
from stelae.spec.places import Table, table_at
from stelae.spec.problem import Path, Problem, missing
from stelae.spec.units import parse_duration

_ONLY: Mapping[str, tuple[str, ...]] = {
    "batch": ("rolling",),
    "surge": ("rolling", "canary"),
    "floor": ("rolling", "canary"),
    "steps": ("canary",),
    "match": ("canary",),
    "sticky": ("canary",),
    "preview": ("canary", "blue-green"),
    "gate": ("rolling", "canary", "blue-green"),
    "job": ("rolling", "canary", "blue-green"),
    "checks": ("rolling", "canary", "blue-green"),
}
"""Keys that only these kinds have. Nothing of the old release is left to decide for in a recreate."""


def check(whole: Table, sound: Table) -> Iterator[Problem]:
    """Yield what is wrong between the strategies and the rest of the document."""
    ported = any("port" in process for process in table_at(whole, "process").values() if isinstance(process, dict))
    owners = _hosts(sound)
    for name in table_at(sound, "env"):
        environment = table_at(sound, "env", name)
        here: Path = ("env", name, "strategy")
        given = environment.get("strategy", {})
        strategy = given if isinstance(given, dict) else {"kind": given}
        written = table_at(whole, "env", name).get("strategy", {})
        kind = strategy.get("kind", "rolling")
        yield from _kinds(here, strategy, kind)
        yield from _bake(here, strategy, kind, environment)
        if kind == "canary" and not (isinstance(written, dict) and "steps" in written):
            yield Problem(path=(*here, "steps"), text="missing; a canary is made of steps, such as [5, 25, 50]")
        yield from _steps(here, strategy, whole)
        yield from _chosen(here, strategy)
        yield from _evidence(here, strategy)
        if not ported:
            yield from _without_requests(here, strategy, kind)
        preview = strategy.get("preview")
        if preview in owners:
            yield Problem(path=(*here, "preview"), text=f'"{preview}" is a host of {owners[preview]} already')
        elif preview:
            owners[preview] = f"env.{name}'s preview"


def _hosts(sound: Table) -> dict[str, str]:
    app, owners = table_at(sound, "app").get("name", ""), {}
    for name in table_at(sound, "env"):
        for host in table_at(sound, "env", name).get("hosts") or [f"{app}.{name}.localhost"]:
            owners[host] = f"env.{name}"
    return owners


def _kinds(here: Path, strategy: Table, kind: str) -> Iterator[Problem]:
    for key, kinds in _ONLY.items():
        if key in strategy and kind not in kinds:
            names = " and ".join(f'"{item}"' for item in kinds)
            plural = "strategies" if len(kinds) > 1 else "strategy"
            yield Problem(path=(*here, key), text=f'only for the {plural} {names}, not for "{kind}"')


def _bake(here: Path, strategy: Table, kind: str, environment: Table) -> Iterator[Problem]:
    if parse_duration(environment.get("bake", "0s")) > 0:
        if kind == "recreate":
            text = 'the strategy "recreate" ends the old release first, so nothing of it can stay warm'
            yield Problem(path=(*here[:-1], "bake"), text=text)
        elif kind != "blue-green" and strategy.get("surge", "100%") != "100%":
            text = "what stays warm needs as much room again; expected a surge of 100%"
            yield Problem(path=(*here[:-1], "bake"), text=text)
    if strategy.get("surge") == "0%" and strategy.get("floor", "100%") == "100%":
        text = "expected less than 100%: with a surge of 0% an old instance has to end before a new one begins"
        yield Problem(path=(*here, "floor"), text=text)


def _steps(here: Path, strategy: Table, whole: Table) -> Iterator[Problem]:
    before, jobs = 0, list(table_at(whole, "job"))
    checks = [item["name"] for item in strategy.get("checks", ())]
    dark = bool(strategy.get("match") or strategy.get("preview"))
    if "job" in strategy and strategy["job"] not in jobs:
        yield missing((*here, "job"), "job", strategy["job"], jobs)
    for index, step in enumerate(strategy.get("steps", ())):
        table: Mapping[str, Any] = step if isinstance(step, dict) else {}
        weight = table["weight"] if table else step
        place: Path = (*here, "steps", index, *(("weight",) if table else ()))
        if weight == 0 and (index or not dark):
            text = "expected a share from 1 to 99; 0 only in a first step, with match or preview"
            yield Problem(path=place, text=text)
        elif index and weight <= before:
            yield Problem(path=place, text=f"expected more than the {before} % of the step before")
        before = weight
        if "job" in table and table["job"] not in jobs:
            yield missing((*here, "steps", index, "job"), "job", table["job"], jobs)
        for number, name in enumerate(table.get("checks", ())):
            if name not in checks:
                yield missing((*here, "steps", index, "checks", number), "check", name, checks)


def _chosen(here: Path, strategy: Table) -> Iterator[Problem]:
    for index, match in enumerate(strategy.get("match", ())):
        if ("header" in match) == ("cookie" in match):
            yield Problem(path=(*here, "match", index), text="expected either header or cookie")


def _evidence(here: Path, strategy: Table) -> Iterator[Problem]:
    names: set[str] = set()
    for index, item in enumerate(strategy.get("checks", ())):
        place: Path = (*here, "checks", index)
        if item["name"] in names:
            yield Problem(path=(*place, "name"), text=f'"{item["name"]}" is the name of another check already')
        names.add(item["name"])
        if parse_duration(item.get("interval", "10s")) < SECOND:  # each answer is an entry of the record
            yield Problem(path=(*place, "interval"), text="expected at least 1s")
        if ("prometheus" in item) == ("webhook" in item):
            yield Problem(path=place, text="expected either prometheus or webhook")
        elif "prometheus" in item:
            if "query" not in item:
                yield Problem(path=(*place, "query"), text="missing; expected what Prometheus is asked")
            if "least" not in item and "most" not in item:
                yield Problem(path=place, text="expected least or most: what the answer must be")
            elif "least" in item and "most" in item and float(item["least"]) > float(item["most"]):
                yield Problem(path=(*place, "least"), text="expected no more than most")
        else:
            for key in ("query", "least", "most"):
                if key in item:
                    yield Problem(path=(*place, key), text="only for prometheus; a webhook answers with a verdict")


def _without_requests(here: Path, strategy: Table, kind: str) -> Iterator[Problem]:
    text = "needs a process with a port: it is about requests"
    if kind == "canary":
        yield Problem(path=(*here, "kind"), text=text)
    for key in ("abort_on", "preview"):
        if key in strategy:
            yield Problem(path=(*here, key), text=text)
