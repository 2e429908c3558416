"""Events of secrets as sentences."""

from __future__ import annotations

from stelae.domain import event as ev
from stelae.domain.event import Event


def of_secrets(event: Event) -> str:
    """Return what *event* says, "" for one of another topic."""
    match event:
        case ev.SecretSet():
            return f"secret {event.name} set: version {event.version}"
        case ev.SecretRevoked():
            return f"version {event.version} of the secret {event.name} revoked: {event.reason}"
        case ev.SecretWiped():
            return f"the value of version {event.version} of the secret {event.name} removed"
    return ""
