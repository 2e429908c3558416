"""What an event is about: the names by which it is found again."""

from __future__ import annotations

from collections.abc import Iterator

from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.artifact import Disk
from stelae.domain.event import Recorded
from stelae.domain.image import Image
from stelae.domain.release import Release

CONTROLLER = "controller"
"""The actor of what nobody asked for: it is not looked for by that name."""

# What a field of an event names. Of an act that was carried out, the act's fields count too.
_FIELDS = (
    ("deployment", "d"), ("run", "i"), ("instance", "i"), ("release", "r"), ("image", "m"), ("disk", "m"),
    ("commit", "c"),
)  # fmt: skip


def instance(environment: str, name: str) -> str:
    """Return the name of an instance, or of a run, of *environment*."""
    return f"i:{environment}:{name}"


def named(kind: str, name: str) -> str:
    """Return the name of a deployment (``d``), release (``r``), image or disk (``m``), commit (``c``), environment
    (``e``) or person (``p``); ``w`` is that of the watches of an environment."""
    return f"{kind}:{name}"


def about(item: Recorded, action: Action | None) -> Iterator[str]:
    """Yield the names that *item* is found by; of an act's intent or outcome *action* is the act."""
    event = item.event
    if item.environment:
        yield named("e", item.environment)
    if item.actor != CONTROLLER:
        yield named("p", item.actor)
    if isinstance(event, ev.RunRequested) and event.by:
        yield named("p", event.by)
    for field, kind in _FIELDS:
        value = getattr(event, field, None)
        if isinstance(value, Release):
            yield named("m", value.image)
            if value.disk is not None:
                yield named("m", value.disk)
            value = value.id
        if isinstance(value, Disk):
            yield named("m", value.image)
        if isinstance(value, Image | Disk):
            value = value.digest
        if isinstance(value, str) and value:
            yield instance(item.environment, value) if kind == "i" else named(kind, value)
    source = getattr(event, "source", None)
    if source is not None:
        yield named("c", source.commit)
    if isinstance(event, ev.EnvironmentWatched):
        yield named("w", item.environment)
    if isinstance(event, ev.Revoked):
        yield named("m", event.name)
    if isinstance(event, ev.StorageCleaning):
        yield from (named("m", image) for image in event.images)
    if isinstance(event, ev.ReplacementRequested):
        yield from (instance(item.environment, name) for name in event.instances)
    if isinstance(event, ev.RunRequested) and event.debug is not None:
        yield instance(item.environment, event.debug.instance)
    if action is not None and action.instance:
        yield instance(item.environment, action.instance)
        if action.verb is Verb.LAUNCH:
            yield named("r", action.release)
    if action is not None and action.verb in (Verb.ENSURE_SET, Verb.REMOVE_SET):
        yield named("r", action.release)
        yield from (instance(item.environment, name) for name in action.victims)
    if action is not None and action.verb is Verb.SET_TRAFFIC:
        yield from (named("r", release) for release in action.weights)
