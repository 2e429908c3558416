"""Facts: what an observation adds to what is recorded of each instance. Pure.

Where the platform keeps sets, an instance is recorded when it is seen first, that it was asked to end when that is
seen, and it is forgotten when it is over and not there any more. An end was asked for as far as a set had more
instances than it was told to have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from stelae.core import backoff, failures
from stelae.core.native import is_native, set_key, told
from stelae.core.target import live_members
from stelae.domain import event as ev
from stelae.domain.event import Event
from stelae.domain.observation import Observation, Phase, Seen
from stelae.domain.state import EnvironmentState, Instance
from stelae.domain.units import Instant

Surplus = Counter[str]
"""Of each set, how many instances are recorded to run beyond what it was told to have."""


def facts(env: EnvironmentState, seen: Observation) -> Iterator[Event]:
    """Return what *seen* adds to what is recorded of the instances of *env*."""
    known = seen.complete and seen.applied >= env.applied
    if is_native(env):
        yield from _of_sets(env, seen, known)
        return
    for instance in env.instances.values():
        if instance.exit is not None or instance.failed:
            continue
        view = seen.instances.get(instance.id)
        if view is not None:
            yield from _fact(instance, view, seen.as_of)
        elif known and instance.started:
            yield ev.InstanceLost(instance=instance.id)


def _fact(instance: Instance, view: Seen, as_of: Instant) -> Iterator[Event]:
    if view.phase is Phase.EXITED:
        if view.exit is None:
            yield ev.InstanceLost(instance=instance.id)
        else:
            exit_ = replace(view.exit, last_lines=failures.shortened(view.exit.last_lines))
            yield ev.InstanceExited(instance=instance.id, exit=exit_)
    elif instance.stopped_at is not None:
        return  # it was asked to end: that it stops answering is no news
    elif view.phase is Phase.READY and instance.ready_at is None:
        if instance.unready_at is None or as_of >= instance.unready_at + backoff.hold(instance.flaps):
            yield ev.InstanceReady(instance=instance.id)
    elif view.phase is Phase.UNREADY and instance.ready_at is not None:
        yield ev.InstanceUnready(instance=instance.id, problem=view.problem[: failures.LONGEST_TEXT])


def _of_sets(env: EnvironmentState, seen: Observation, known: bool) -> Iterator[Event]:
    surplus = _surplus(env)
    for instance in env.instances.values():
        view = seen.instances.get(instance.id)
        if view is not None:
            yield from _of_seen(instance, view, seen.as_of, surplus)
        elif known:
            yield from _vanished(instance, surplus)
    for view in seen.instances.values() if known else ():
        if _is_new(env, view):
            yield ev.InstanceSeen(instance=view.id, release=view.release, process=view.process, node=view.node)
            instance = Instance(id=view.id, release=view.release, process=view.process, launched_at=seen.as_of)
            yield from _of_seen(instance, view, seen.as_of, surplus)


def _surplus(env: EnvironmentState) -> Surplus:
    there = {set_key(*key): len(group) for key, group in live_members(env).items()}
    return Counter({key: count - told(env, key) for key, count in there.items()})


def _is_new(env: EnvironmentState, view: Seen) -> bool:
    """True for an instance that is to be recorded. One of a release or a process that there is not is drift."""
    release = env.releases.get(view.release)
    known = view.id in env.instances or view.id in env.runs
    return not known and release is not None and release.process(view.process) is not None


def _of_seen(instance: Instance, view: Seen, as_of: Instant, surplus: Surplus) -> Iterator[Event]:
    if instance.exit is not None:
        return
    if view.ending and instance.stopped_at is None:
        yield _ending(instance, surplus)
        instance = replace(instance, stopped_at=as_of)
    yield from _fact(instance, view, as_of)


def _vanished(instance: Instance, surplus: Surplus) -> Iterator[Event]:
    """It is not there any more. What ended between two looks, and had to, was asked to."""
    if instance.exit is None and instance.stopped_at is None:
        if surplus[set_key(instance.release, instance.process)] <= 0:
            yield ev.InstanceLost(instance=instance.id)
            return  # forgotten by the next look
        yield _ending(instance, surplus)
    yield ev.InstanceGone(instance=instance.id)


def _ending(instance: Instance, surplus: Surplus) -> ev.InstanceEnding:
    key = set_key(instance.release, instance.process)
    surplus[key] -= 1
    return ev.InstanceEnding(instance=instance.id, unasked=surplus[key] < 0)
