"""Environments in the words of a spec, and the difference between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stelae.domain.environment import Environment
from stelae.spec import drift, platform, promotion, scaling, secrets, strategy
from stelae.spec.problem import dotted
from stelae.spec.units import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One value of an environment that differs. ``path`` is inside the environment, such as
    ``strategy.batch``; ``old`` and ``new`` are in the spec's words, and empty where there is nothing."""

    path: str
    old: str
    new: str


def environment_document(environment: Environment) -> dict[str, Any]:
    """Return *environment* as ``[env.NAME]`` would say it, defaults included, always in the same order."""
    return {
        "processes": scaling.rendered(environment),
        "settings": dict(sorted(environment.settings.items())),
        "hosts": list(environment.hosts),
        "strategy": strategy.rendered(environment.strategy),
        "bake": format_duration(environment.bake),
        "promote_from": environment.promote_from,
        "require": [item.value for item in environment.require],
        **promotion.rendered(environment),
        **drift.rendered(environment),
        **secrets.rendered(environment),
        **platform.rendered(environment.platform),
    }


def changes(old: Environment | None, new: Environment | None) -> tuple[Change, ...]:
    """Return what differs between *old* and *new*, in the order of the document; None is no environment."""
    before, after = _flat(old), _flat(new)
    paths = [*after, *(path for path in before if path not in after)]
    return tuple(
        Change(path=path, old=_word(before.get(path)), new=_word(after.get(path)))
        for path in paths
        if before.get(path) != after.get(path)
    )


def _flat(environment: Environment | None) -> dict[str, object]:
    """Return path to value; lists, and keys that hold nothing, are values of their own or not there."""
    if environment is None:
        return {}
    flat: dict[str, object] = {}
    for key, value in environment_document(environment).items():
        if key == "processes":
            flat |= scaling.flat(value)
        elif isinstance(value, Mapping):
            flat |= {dotted((key, name)): item for name, item in value.items()}
        elif value not in ("", [], 0):
            flat[key] = value
    return flat


def _row(table: Mapping[str, object]) -> str:
    return " ".join(f"{name} {_word(value)}" for name, value in table.items())


def _word(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(item if isinstance(item, str) else _row(item) for item in value)
    return '""' if value == "" else str(value)
