"""``processes`` of an environment: a number of instances, or between which numbers, and by what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stelae.domain.environment import Environment
from stelae.domain.scaling import DOWN, UP, Pace, Scaling
from stelae.domain.units import HOUR
from stelae.spec.forms import Schema, key, number, table, text
from stelae.spec.places import Table, table_at
from stelae.spec.problem import Problem, dotted
from stelae.spec.units import format_duration, format_percent, parse_duration, parse_percent

MOST = 1000
"""The largest count."""

LONGEST = HOUR
"""The longest window, and the longest period: what is remembered of them is in memory only."""

GROWTH = text('a share from "1%" to "9999%"', r"^[1-9][0-9]{0,3}%$")

INSTANCES = number(1, MOST)

RATE = number(1, 1_000_000)

_PACE = {
    "share": key("growth", "By how much of what it was when the period began; of share and count the larger one."),
    "count": key("instances", "By how many; of share and count the larger one."),
    "period": key("positive_duration", "The time in which the count may change by so much."),
}

COUNT: Schema = {
    **table(
        f"a number of instances from 0 to {MOST}, or a table such as {{ min = 1, max = 10, target_rps = 100 }}",
        {
            "min": key("instances", "The least instances, with which it starts."),
            "max": key("instances", "The most instances."),
            "target_rps": key("rate", "Requests a second that each instance is for; of a process with a port."),
            "target_cpu": key("percent", "The share of its cpu, or of one core, that each instance should use."),
            "tolerance": key("percent", "A difference from a target that changes nothing.", default="10%"),
            "up": table(
                "a table",
                {"window": key("duration", "How long all must ask for more.", default="0s"), **_PACE},
                description='How quickly it goes up; by default { share = "100%", count = 20, period = "5s" }.',
            ),
            "down": table(
                "a table",
                {"window": key("duration", "How long nothing must ask for as many.", default="5m"), **_PACE},
                description='How quickly it goes down; by default { share = "50%", period = "1m" }.',
            ),
        },
        required=["min", "max"],
    ),
    "type": ["integer", "object"],
    "minimum": 0,
    "maximum": MOST,
}

WORDS: Schema = {"growth": GROWTH, "instances": INSTANCES, "rate": RATE, "count": COUNT}
"""The forms that this module adds to the schema's."""


def check(whole: Table, sound: Table) -> Iterator[Problem]:
    """Yield what is wrong between the values of what is scaled."""
    for name in table_at(sound, "env"):
        counts = table_at(sound, "env", name, "processes")
        for process in counts:
            if isinstance(counts[process], Mapping):
                here = ("env", name, "processes", process)
                said = table_at(whole, *here)
                if "target_rps" not in said and "target_cpu" not in said:
                    yield Problem(path=here, text="expected target_rps or target_cpu beside min and max")
                yield from _of_process(here, counts[process], table_at(whole, "process", process))


def _of_process(here: tuple[str, ...], given: Table, process: Table) -> Iterator[Problem]:
    least, most = given.get("min"), given.get("max")
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield Problem(path=(*here, "max"), text=f"expected a number of at least {least}, which is min, got {most}")
    if "target_rps" in given and process and "port" not in process:
        yield Problem(path=(*here, "target_rps"), text="only for a process with a port; this one gets no requests")
    for way in ("up", "down"):
        pace = table_at(given, way)
        for word in ("window", "period"):
            if word in pace and parse_duration(pace[word]) > LONGEST:
                text_ = f"expected at most {format_duration(LONGEST)}, got {pace[word]}"
                yield Problem(path=(*here, way, word), text=text_)
    if _share(table_at(given, "down").get("share", "100%")) > 100:
        yield Problem(path=(*here, "down", "share"), text="expected at most 100%: no more than all can go")


def counts(given: Table) -> dict[str, int]:
    """Return with how many instances each process starts."""
    return {name: int(count["min"] if isinstance(count, Mapping) else count) for name, count in given.items()}


def scalings(given: Table) -> dict[str, Scaling]:
    """Return how those processes are scaled that are."""
    return {name: _scaling(count) for name, count in given.items() if isinstance(count, Mapping)}


def _scaling(given: Mapping[str, Any]) -> Scaling:
    words: dict[str, Any] = {
        name: parse_percent(given[name]) for name in ("target_cpu", "tolerance") if name in given
    }
    return Scaling(
        least=int(given["min"]), most=int(given["max"]), target_rps=int(given.get("target_rps", 0)),
        up=_pace(given.get("up", {}), UP), down=_pace(given.get("down", {}), DOWN), **words,
    )  # fmt: skip


def _pace(given: Mapping[str, Any], usual: Pace) -> Pace:
    """Where one of share and count is given, the usual other one does not count beside it."""
    window = parse_duration(given["window"]) if "window" in given else usual.window
    period = parse_duration(given["period"]) if "period" in given else usual.period
    if "share" not in given and "count" not in given:
        return Pace(window=window, share=usual.share, count=usual.count, period=period)
    share, count = _share(given.get("share", "0%")), int(given.get("count", 0))
    return Pace(window=window, share=share, count=count, period=period)


def _share(given: str) -> int:
    return int(given.removesuffix("%"))


def rendered(environment: Environment) -> dict[str, Any]:
    """Return ``processes`` in the words of a spec, defaults included, in the order of their names."""
    return {
        name: _rendered(environment.scaling[name]) if name in environment.scaling else count
        for name, count in sorted(environment.processes.items())
    }


def _rendered(scaling: Scaling) -> dict[str, Any]:
    targets: dict[str, Any] = {}
    if scaling.target_rps:
        targets["target_rps"] = scaling.target_rps
    if scaling.target_cpu:
        targets["target_cpu"] = format_percent(scaling.target_cpu)
    return {
        "min": scaling.least,
        "max": scaling.most,
        **targets,
        "tolerance": format_percent(scaling.tolerance),
        "up": _rendered_pace(scaling.up),
        "down": _rendered_pace(scaling.down),
    }


def _rendered_pace(pace: Pace) -> dict[str, Any]:
    shown: dict[str, Any] = {"window": format_duration(pace.window)}
    if pace.share:
        shown["share"] = format_percent(pace.share)
    if pace.count:
        shown["count"] = pace.count
    return {**shown, "period": format_duration(pace.period)}


def flat(processes: Mapping[str, Any]) -> dict[str, object]:
    """Return path to value of what ``rendered`` gave: one line for each value that may differ."""
    found: dict[str, object] = {}
    for name, count in processes.items():
        if not isinstance(count, Mapping):
            found[dotted(("processes", name))] = count
            continue
        found[dotted(("processes", name))] = f"{count['min']} to {count['max']}"
        for word, value in count.items():
            if word not in ("min", "max"):
                found[dotted(("processes", name, word))] = _words(value) if isinstance(value, Mapping) else value
    return found


def _words(pace: Mapping[str, object]) -> str:
    return ", ".join(f"{word} {value}" for word, value in pace.items())
