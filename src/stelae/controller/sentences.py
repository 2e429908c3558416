"""Events as sentences for people: one line each, the fact first."""

from __future__ import annotations

from stelae.controller import check_sentences, watch_sentences
from stelae.controller.drift_sentences import of_drift
from stelae.controller.installation_sentences import of_installation
from stelae.controller.promotion_sentences import of_promotion
from stelae.controller.run_views import run_sentence
from stelae.controller.secret_sentences import of_secrets
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.digest import short
from stelae.domain.event import Event
from stelae.domain.release import short_release
from stelae.domain.state import Outcome, Phase

_DONE = {
    Outcome.SUCCEEDED: "succeeded",
    Outcome.REVERTED: "was reverted",
    Outcome.CANCELLED: "was cancelled",
    Outcome.SUPERSEDED: "was superseded",
    Outcome.FAILED: "failed",
}


_PHASES = {
    Phase.WAITING: "waits to be let in",
    Phase.PREPARING: "is let in and prepares",
    Phase.FORWARD: "goes forward",
    Phase.REVERTING: "goes back",
}

_ROUTINE = (
    ev.ActionIntended, ev.AllocationSet, ev.InstanceReady, ev.RolloutAdvanced, ev.RolloutPhase, ev.StepHeld,
    ev.FreezeKnown, ev.VerificationSigned, ev.InstanceSeen, ev.InstanceGone,
)  # fmt: skip


def matters(event: Event) -> bool:
    """True for what a person looks for in a history: not the single acts and observations that went well."""
    if isinstance(event, ev.ActionDone):
        return bool(event.error)
    if isinstance(event, ev.InstanceExited):
        return event.exit.code not in (0, 143)
    if isinstance(event, ev.InstanceEnding):
        return event.unasked
    if isinstance(event, ev.CheckMeasured):
        return not check_sentences.is_usual(event)
    if isinstance(event, ev.EnvironmentWatched):
        return not watch_sentences.is_usual(event)
    return not isinstance(event, _ROUTINE)


def sentence(event: Event) -> str:
    """Return what *event* says, in words."""
    found = of_installation(event) or _of_people(event) or _of_rollouts(event) or _of_instances(event)
    found = found or of_secrets(event) or run_sentence(event) or of_promotion(event) or of_drift(event)
    return found or check_sentences.of_checks(event) or watch_sentences.of_watches(event) or event.kind


def _of_people(event: Event) -> str:
    match event:
        case ev.EnvironmentApplied():
            return "environment applied"
        case ev.EnvironmentStopped():
            return "taken down"
        case ev.EnvironmentStarted():
            return "started again"
        case ev.Scaled():
            return f"{event.process} scaled to {event.count}" + (f": {event.reason}" if event.reason else "")
        case ev.DeploymentRequested():
            why = f" ({event.reason})" if event.reason else ""
            release = f"{short_release(event.release.id)}, image {short(event.release.image)}"
            release += f", disk {short(event.release.disk)}" if event.release.disk is not None else ""
            urgent = f", an emergency: {event.emergency}" if event.emergency else ""
            return f"{event.deployment}: {event.deployment_kind} of {release}{urgent}{why}"
        case ev.RequestRefused():
            return f"{event.request} refused: {event.reason}"
    return ""


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _of_rollouts(event: Event) -> str:
    match event:
        case ev.RolloutAdvanced():
            return f"{event.deployment}: step {event.step + 1}{_because(event.reason)}"
        case ev.RolloutPhase():
            return f"{event.deployment} {_PHASES[event.phase]}"
        case ev.StepHeld():
            return f"{event.deployment}: step {event.step + 1} is held"
        case ev.PersonAwaited():
            return f"{event.deployment} asks: {event.reason}" if event.reason else f"{event.deployment} asks no more"
        case ev.GateOpened():
            return f"{event.deployment}: step {event.step + 1} may go on{_because(event.reason)}"
        case ev.RolloutPaused():
            return f"{event.deployment} paused{_because(event.reason)}"
        case ev.RolloutResumed():
            return f"{event.deployment} goes on"
        case ev.RolloutHurried():
            return f"{event.deployment} skips the soaks and gates that are left{_because(event.reason)}"
        case ev.RolloutReverting():
            return f"{event.deployment} goes back: {event.reason}"
        case ev.RolloutEnded():
            return f"{event.deployment} {_DONE[event.outcome]}" + (f": {event.reason}" if event.reason else "")
        case ev.PlatformLost():
            return event.reason
        case ev.PlatformBack():
            return "the platform answers again"
        case ev.WarmEnded():
            return f"{short_release(event.release)} is not kept warm any more"
        case ev.AllocationSet():
            held = ", ".join(
                f"{item.total} {item.process} of {short_release(item.release)}" for item in event.allocation.holdings
            )
            return f"should hold {held or 'nothing'}"
    return ""


def _on(node: str) -> str:
    return f" on {node}" if node else ""


def _of_set(action: Action) -> str:
    """Return what an act on a set of instances is, "" for any other."""
    name = f"{action.process} of {short_release(action.release)}"
    match action.verb:
        case Verb.ENSURE_SET:
            first = f", {', '.join(action.victims)} first" if action.victims else ""
            return f"have {action.count} {name}{first}"
        case Verb.REMOVE_SET:
            return f"take away the set of {name}"
        case Verb.SET_TRAFFIC:
            shares = (f"{part} to {short_release(release)}" for release, part in sorted(action.weights.items()))
            return f"share out the requests: {', '.join(shares) or 'none'}"
    return ""


def _of_instances(event: Event) -> str:
    match event:
        case ev.ActionIntended(action=action):
            if action.verb is Verb.ROUTE:
                return f"#{action.number} route to {', '.join(sorted(action.table)) or 'nothing'}"
            return f"#{action.number} {_of_set(action) or f'{action.verb} {action.instance}'}"
        case ev.ActionDone():
            return f"#{event.number} " + (f"failed: {event.error}" if event.error else "done")
        case ev.InstanceReady():
            return f"{event.instance} is ready"
        case ev.InstanceUnready():
            return f"{event.instance} is not ready any more: {event.problem}"
        case ev.InstanceExited():
            return f"{event.instance} {event.exit}"
        case ev.InstanceLost():
            return f"{event.instance} is gone"
        case ev.InstanceSeen():
            return f"{event.instance} of {short_release(event.release)} was launched" + _on(event.node)
        case ev.InstanceEnding():
            return f"{event.instance} ends" + (", which nobody here asked for" if event.unasked else "")
        case ev.InstanceGone():
            return f"{event.instance} is not there any more"
    return ""
