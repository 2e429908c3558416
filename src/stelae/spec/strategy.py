"""The strategy of ``[env.NAME]``: what it says, and how it is written. ``strategy_form`` has its form, and
``strategy_checks`` its sense."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from stelae.domain.strategy import (
    Analysis,
    Check,
    CheckKind,
    Gate,
    Match,
    MatchKind,
    Step,
    Strategy,
    StrategyKind,
)
from stelae.domain.units import MILLISECOND
from stelae.spec.strategy_form import LATENCIES
from stelae.spec.units import (
    format_duration,
    format_percent,
    parse_duration,
    parse_percent,
)

MILLION = 1_000_000
"""Millionths in the whole."""

BASIS = 100
"""Basis points in a percent."""


def read(given: str | Mapping[str, Any]) -> Strategy:
    """Return what the checked value *given* of the key ``strategy`` says."""
    told: Mapping[str, Any] = {"kind": given} if isinstance(given, str) else given
    times = ("min_healthy", "progress", "platform", "patience")
    words: dict[str, Any] = {name: parse_duration(told[name]) for name in times if name in told}
    words |= {name: int(told[name].rstrip("%")) for name in ("surge", "floor") if name in told}
    batch = told.get("batch")
    if batch is not None:
        words |= {"batch": parse_percent(batch)} if isinstance(batch, str) else {"batch_count": int(batch)}
    checks = tuple(_check(item) for item in told.get("checks", ()))
    usual = _gate(told, Gate(), (check.name for check in checks))
    return Strategy(
        kind=StrategyKind(told.get("kind", StrategyKind.ROLLING)),
        gate=usual,
        steps=tuple(_step(item, usual) for item in told.get("steps", ())),
        preview=told.get("preview", ""),
        matches=tuple(_match(item) for item in told.get("match", ())),
        sticky=told.get("sticky", False),
        analysis=_analysis(told["abort_on"]) if "abort_on" in told else None,
        checks=checks,
        **words,
    )


def _gate(told: Mapping[str, Any], usual: Gate, checks: Iterable[str]) -> Gate:
    """What *told* says of a gate with *checks*; what it does not say is as *usual*."""
    return Gate(
        soak=parse_duration(told["soak"]) if "soak" in told else usual.soak,
        manual=told["gate"] == "manual" if "gate" in told else usual.manual,
        job=told.get("job", usual.job),
        checks=tuple(checks),
    )


def _step(told: int | Mapping[str, Any], usual: Gate) -> Step:
    step: Mapping[str, Any] = told if isinstance(told, Mapping) else {"weight": told}
    gate = _gate(step, usual, step.get("checks", usual.checks))
    return Step(weight=int(step["weight"]) * BASIS, gate=gate)


def _match(told: Mapping[str, Any]) -> Match:
    kind = MatchKind.HEADER if "header" in told else MatchKind.COOKIE
    return Match(kind=kind, name=told[kind.value], value=told.get("value", ""))


def _analysis(told: Mapping[str, Any]) -> Analysis:
    words: dict[str, Any] = {
        name: int(told[f"{name}_ms"]) * MILLISECOND for name in LATENCIES if f"{name}_ms" in told
    }
    if "error_rate" in told:
        words["error_rate"] = max(1, int(Decimal(repr(told["error_rate"])) * MILLION))
    if "requests" in told:
        words["requests"] = int(told["requests"])
    return Analysis(compare=told.get("compare", True), **words)


def _check(told: Mapping[str, Any]) -> Check:
    kind = CheckKind.PROMETHEUS if "prometheus" in told else CheckKind.WEBHOOK
    words: dict[str, Any] = {name: parse_duration(told[name]) for name in ("interval", "timeout") if name in told}
    words |= {name: number(told[name]) for name in ("least", "most") if name in told}
    if "failures" in told:
        words["failures"] = int(told["failures"])
    return Check(name=told["name"], kind=kind, url=told[kind.value], query=told.get("query", ""), **words)


def number(given: float | str) -> str:
    """Return a number of a spec as decimal text."""
    return given if isinstance(given, str) else format(Decimal(repr(given)), "f")


def rendered(strategy: Strategy) -> dict[str, str]:
    """Return *strategy* in the words of a spec; what is as usual is left out, but for what every strategy has."""
    batch = str(strategy.batch_count) if strategy.batch_count else format_percent(strategy.batch)
    own, usual = _others(strategy), _others(Strategy())
    return {
        "kind": strategy.kind.value,
        "batch": batch,
        "min_healthy": format_duration(strategy.min_healthy),
        "progress": format_duration(strategy.progress),
        "platform": format_duration(strategy.platform),
        **{name: value for name, value in own.items() if value != usual[name]},
    }


def _others(strategy: Strategy) -> dict[str, str]:
    analysis = strategy.analysis
    return {
        "surge": f"{strategy.surge}%",
        "floor": f"{strategy.floor}%",
        "patience": format_duration(strategy.patience),
        "steps": _listed(_rendered_step(step, strategy.gate) for step in strategy.steps),
        "soak": format_duration(strategy.gate.soak),
        "gate": _manual(strategy.gate),
        "job": strategy.gate.job,
        "preview": strategy.preview,
        "match": _listed(_table({item.kind.value: item.name, "value": item.value}) for item in strategy.matches),
        "sticky": _bool(strategy.sticky),
        "abort_on": "" if analysis is None else _rendered_analysis(analysis),
        "checks": _listed(_rendered_check(check) for check in strategy.checks),
    }


def _rendered_step(step: Step, usual: Gate) -> str:
    gate = step.gate
    words: dict[str, object] = {"weight": step.weight // BASIS}
    words["soak"] = format_duration(gate.soak) if gate.soak != usual.soak else ""
    words["gate"] = _manual(gate) if gate.manual != usual.manual else ""
    words["job"] = gate.job if gate.job != usual.job else ""
    if gate.checks != usual.checks:
        words["checks"] = list(gate.checks)
    return str(words["weight"]) if not any(list(words.values())[1:]) and len(words) == 4 else _table(words)


def _rendered_analysis(analysis: Analysis) -> str:
    rate = f"{Decimal(analysis.error_rate) / MILLION:f}" if analysis.error_rate else ""
    words: dict[str, object] = {"error_rate": Decimal(rate) if rate else ""}
    words |= {f"{name}_ms": getattr(analysis, name) // MILLISECOND or "" for name in LATENCIES}
    return _table({**words, "compare": analysis.compare, "requests": analysis.requests})


def _rendered_check(check: Check) -> str:
    return _table({
        "name": check.name, check.kind.value: check.url, "query": check.query, "least": check.least,
        "most": check.most, "interval": format_duration(check.interval), "timeout": format_duration(check.timeout),
        "failures": check.failures,
    })  # fmt: skip


def _manual(gate: Gate) -> str:
    return "manual" if gate.manual else "auto"


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _listed(items: Iterable[str]) -> str:
    found = ", ".join(items)
    return f"[{found}]" if found else ""


def _table(words: Mapping[str, object]) -> str:
    """Return *words* as an inline table of TOML, without what is empty."""
    return "{" + ", ".join(f"{name} = {_value(value)}" for name, value in words.items() if value != "") + "}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return _bool(value)
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return json.dumps(value, ensure_ascii=False)
