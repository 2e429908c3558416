"""Events of the whole installation as sentences: its controller, its images, whose keys count, its disk.

What is signed, sent or revoked may be an image or a disk of one, which its event does not say: it is named by digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from stelae.core import verification
from stelae.domain import event as ev
from stelae.domain.digest import Digest, short
from stelae.domain.event import Event


def of_installation(event: Event) -> str:
    """Return what *event* says, "" where it is of another topic."""
    match event:
        case ev.ControllerStarted():
            return f"controller {event.version} started"
        case ev.ClockDiffers():
            if not event.ahead:
                return "recorded times are the machine's again"
            far = verification.spell(event.ahead)
            return f"the machine's clock was put back: recorded times are up to {far} ahead of it"
        case ev.InstallationRestored():
            log = "the log goes on" if event.continues else "without the log's key: a new log begins"
            when = datetime.fromtimestamp(event.made_at / 1e6, UTC)
            what = f"its first {event.size} events, made {when:%Y-%m-%d %H:%M} UTC"
            return f"restored on {event.host} from a backup of {what}; {log}"
        case ev.ImageBuilt():
            source = f"{event.source.commit[:7]} {event.source.subject}".rstrip()
            return f"built image {short(event.image.digest)} from {source}"
        case ev.DiskBuilt():
            return f"made disk {short(event.disk.digest)} of image {short(event.disk.image)}"
        case ev.DiskImported():
            return f"took disk {short(event.disk.digest)} of image {short(event.disk.image)} from {event.name}"
        case ev.BuildFailed():
            return f"build of {event.source.commit[:7]} failed: {event.reason}"
        case ev.ImageImported():
            by = f" by its tag {event.tag}" if event.tag else ""
            return f"took image {short(event.image.digest)} from {event.name}{by}"
        case ev.ImagePushed():
            return f"sent {short(event.image)} to {event.name}{':' if event.tag else ''}{event.tag}"
        case ev.ImageAttested():
            return f"{short(event.image)} signed by {event.key[:8]}"
        case ev.KeyTrusted():
            return f"key {event.key[:8]} trusted" + (" to sign here" if event.signs else "")
        case ev.Revoked():
            what = f"key {event.name[:8]}" if event.name.startswith("k-") else short(Digest(event.name))
            return f"{what} revoked: {event.reason}"
        case ev.StorageCleaning():
            return f"removing {_counted(event.counts, event.bytes)} that nothing needs"
        case ev.StorageCleaned():
            done = f"removed {_counted(event.counts, event.bytes)}"
            return f"{done}; then cleaning the disk failed: {event.problem}" if event.problem else done
        case ev.WitnessPolicySet():
            return f"policy of witnesses set: {short(event.digest)}" if event.text else "witnesses are asked no more"
        case ev.WitnessRefused():
            return f"witness {event.witness} refused the log: {event.reason}"
    return ""


def _counted(counts: Mapping[str, int], size: int) -> str:
    """Return ``2 images, 14 blobs, 31.2 MB``."""
    words = [f"{count} {what}{'' if count == 1 else 's'}" for what, count in sorted(counts.items())]
    return ", ".join([*words, f"{size / 1e6:.1f} MB"])
