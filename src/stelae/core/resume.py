"""Resume: what a controller that starts does about acts that were intended before and have no outcome. Pure.

A launch, a kill and a removal are done again: nothing that happened meanwhile makes them wrong. Only a launch whose
instance is ready was done: if it were tried again and failed, what serves would be taken for a failure. A traffic
table, an instance's end, and what is done to a set of instances were right by what was seen then; with what is seen
now they may take capacity that is needed, so they are done again only where they would be intended again. The launch
of a run is done again only when the platform can tell that it never began: else nobody knows, and its outcome says
so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from stelae.core.target import live
from stelae.domain.action import Action, Verb
from stelae.domain.observation import Observation, Phase
from stelae.domain.state import EnvironmentState

DROPPED = "not done again after a restart of the controller: what is there has changed"
"""The recorded outcome of an act that is not done again."""

DOUBT = "the controller ended while it was being started, and nothing tells whether it ran"
"""The recorded outcome of the launch of a run that is not seen and may have begun."""


def undone(env: EnvironmentState, pending: Collection[Action]) -> EnvironmentState:
    """Return *env* as if the tables and the ends among *pending* had not been intended."""
    instances = dict(env.instances)
    for action in pending:
        if action.verb is Verb.STOP and action.instance in instances:
            instances[action.instance] = replace(instances[action.instance], stopped_at=None)
    return replace(env, instances=instances)


def was_done(action: Action, seen: Observation, *, once: bool = False) -> bool:
    """True when *seen* shows that *action* was carried out; the launch of a run (*once*) was where it is seen."""
    if action.verb is Verb.ENSURE_SET:
        return seen.sets.get((action.release, action.process)) == action.count
    view = seen.instances.get(action.instance)
    return action.verb is Verb.LAUNCH and view is not None and (once or view.phase is Phase.READY)


def still_right(action: Action, env: EnvironmentState, proposed: Collection[Action]) -> bool:
    """True when *action* is to be done again; *proposed* are the actions that would be intended now, and *env* is
    the state that they were made from (see ``undone``)."""
    wanted = any(replace(new, number=action.number) == action for new in proposed)
    if action.verb in (Verb.ROUTE, Verb.ENSURE_SET, Verb.SET_TRAFFIC, Verb.REMOVE_SET):
        return wanted
    if action.verb is Verb.STOP:
        instance = env.instances.get(action.instance)
        return wanted or instance is None or not live(instance)
    run = env.runs.get(action.instance) if action.verb is Verb.LAUNCH else None
    return run is None or run.ending is None
