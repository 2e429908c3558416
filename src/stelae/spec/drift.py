"""What an environment does about drift, in ``stelae.toml``: ``drift`` and ``drift_storm``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stelae.domain.drift import Answer, DriftPolicy
from stelae.domain.environment import Environment
from stelae.spec.forms import Schema, key
from stelae.spec.units import format_percent, parse_percent

_USUAL = DriftPolicy()

WORDS: Schema = {
    "drift": {
        "title": " or ".join(f'"{answer.value}"' for answer in Answer),
        "enum": [answer.value for answer in Answer],
    },
}
"""Kinds of value that only these keys have."""

KEYS: Schema = {
    "drift": key(
        "drift", "What is done about an instance that is not what its release says.", default=_USUAL.answer.value
    ),
    "drift_storm": key(
        "percent",
        "When more of the instances drifted within ten minutes, nothing more is replaced until a person says so.",
        default=format_percent(_USUAL.storm),
    ),
}
"""The keys, for the schema."""


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the keys of a checked ``[env.NAME]`` say, as arguments of ``Environment``."""
    storm = parse_percent(given["drift_storm"]) if "drift_storm" in given else _USUAL.storm
    return {"drift": DriftPolicy(answer=Answer(given.get("drift", _USUAL.answer)), storm=storm)}


def rendered(environment: Environment) -> dict[str, Any]:
    """Return these keys as ``[env.NAME]`` would say them."""
    return {"drift": environment.drift.answer.value, "drift_storm": format_percent(environment.drift.storm)}
