"""Events of promotion as sentences for people."""

from __future__ import annotations

from stelae.core import promotion
from stelae.domain import event as ev
from stelae.domain.digest import short
from stelae.domain.event import Event
from stelae.domain.release import short_release


def of_promotion(event: Event) -> str:
    """Return what *event* says, "" where it is of another topic."""
    match event:
        case ev.ImageVerified():
            return f"{_what(event)} is verified by {event.deployment}: {event.evidence}"
        case ev.VerificationSigned():
            return f"that {_what(event)} is verified is signed by {event.key[:8]}"
        case ev.VerifierTrusted():
            return f"key {event.key[:8]} trusted for what is verified in {event.verifies}"
        case ev.VerificationAccepted():
            return (
                f"{_what(event)} comes in on the word of {event.key[:8]}, who verified it in "
                f"{event.verifies}: {event.evidence}"
            )
        case ev.DeploymentApproved():
            groups = f" for {', '.join(event.groups)}" if event.groups else ""
            why = f" ({event.reason})" if event.reason else ""
            return f"{event.deployment} of {short_release(event.release)} approved{groups}{why}"
        case ev.FreezePassed():
            what = f"as an emergency: {event.emergency}" if event.emergency else "as a rollback"
            return f"{event.deployment} passes a freeze ({promotion.said(event.window)}) {what}"
        case ev.FreezeKnown():
            return f"next {promotion.said(event.window)}" if event.window is not None else "no freeze comes"
        case ev.NotificationFailed():
            return f"{event.to} could not be told of event {event.index}: {event.problem}"
    return ""


def _what(event: ev.ImageVerified | ev.VerificationSigned | ev.VerificationAccepted) -> str:
    """The disk, where that is what machines booted, with its image."""
    of_disk = f"disk {short(event.disk)} of " if event.disk is not None else ""
    return f"{of_disk}image {short(event.image)}"
