"""The shapes of answers about drift."""

from __future__ import annotations

from typing import Literal, TypedDict

from stelae.controller.shapes.common import Count, Time


class DriftFinding(TypedDict):
    """A difference: what differs, in a word and in a sentence, since when that is known, and what was seen. It is
    ``recorded`` unless something was under way of which the inspection could not know."""

    drift: Literal["layer", "mount", "process", "code", "settings", "network", "monitor", "routing", "unknown"]
    what: str
    since: Time
    recorded: bool
    evidence: list[str]


class Inspected(TypedDict):
    """An instance, or (``process`` is ``""`` then) a run, and how it differs from its release. Where it was not
    ``inspected``, ``missed`` says why, and nothing is known of it but what was found before."""

    id: str
    process: str
    release: str
    inspected: bool
    missed: str
    findings: list[DriftFinding]


class Storm(TypedDict):
    """So many instances drifted, of those that should serve, that nothing more is replaced."""

    at: Time
    found: Count
    of: Count


class Drift(TypedDict):
    """How many instances drifted, how many ``others`` (runs, and what is of the whole environment) did, and what is
    done about it."""

    instances: Count
    others: Count
    policy: Literal["replace", "report"]
    storm: Storm | None


class InspectedEnvironment(Drift):
    """What an inspection found in an environment; ``findings`` are of no single instance. ``missed`` says why its
    traffic was not looked at, ``""`` where it was."""

    environment: str
    as_of: Time
    running: list[Inspected]
    missed: str
    findings: list[DriftFinding]


class Inspections(TypedDict):
    """What was found, an environment each."""

    environments: list[InspectedEnvironment]


class Replaced(TypedDict):
    """The instances that are replaced from now on, and whether that ended a drift storm."""

    environment: str
    instances: list[str]
    storm_ended: bool
