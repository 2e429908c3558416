"""Putting a restored state in its place, so that a crash leaves an empty machine or a whole one.

All of it is made in ``STATE/.restoring``, synced, and then renamed to ``STATE/.restored``: in that moment the machine
is restored. What follows, moving each part up by a rename, is done again by whoever comes next (another restore, or
the controller's start) until it is done. All names are within one folder, so the state may be a disk of its own.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from stelae.domain.errors import Conflict, Failed, Refused
from stelae.ledger.lock import WriterLock
from stelae.system import points
from stelae.system.files import sync_disk, sync_folder
from stelae.system.installation import Installation

_STAGING, _READY = ".restoring", ".restored"
_LAST = "ledger.db"
"""What comes into its place last."""

_RECORD = ("ledger.db", "ledger.db-wal", "ledger.reserve", "log/checkpoint")
_FOLDERS = ("ledger.held", "secrets", "images/blobs/sha256", "inputs", "keys")


def refuse_record(installation: Installation) -> None:
    """Raise Refused when there is a record already, or something else that a restore would mix with, or something
    runs here."""
    state = installation.state
    there = next((state / name for name in _RECORD if os.path.lexists(state / name)), None)
    if there is not None:
        raise Refused(
            "there is a record here already, and a backup only comes to an empty machine", where=str(there),
            hint=f"to give it up: stelae controller stop, then move it away: mv {state} {state}.old",
        )  # fmt: skip
    full = next((state / name for name in _FOLDERS if any(_listed(state / name))), None)
    if full is not None:
        raise Refused("there is something of another installation here", where=str(full),
                      hint=f"move it away: mv {state} {state}.old")  # fmt: skip
    if (installation.run / "fence").exists():
        raise Refused(
            "instances of another record may run on this machine", where=str(installation.run),
            hint="restart the machine first, so that nothing of it is left",
        )  # fmt: skip


def _listed(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


class Place:
    """The place of a state that is being restored; held against a controller and another restore until it is closed.

    Raises Conflict when one of them has it, Refused as ``refuse_record``, Failed when it cannot be made.
    """

    def __init__(self, installation: Installation) -> None:
        self._state = installation.state
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            self._lock = WriterLock(installation.ledger.with_suffix(".lock"))
        except OSError as error:
            raise Failed(f"nothing can be restored there: {error.strerror}", where=str(error.filename)) from error
        try:
            if (self._state / _READY).is_dir():
                _move_up(self._state)
                raise Conflict(
                    "an earlier restore had come to its end here, all but the last step, which is done now",
                    where=str(self._state), hint="start the controller: stelae up",
                )  # fmt: skip
            refuse_record(installation)
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(mode=0o700)
        except BaseException:  # whatever it is: nobody else could take the place before this process ends
            self._lock.release()
            raise

    @property
    def folder(self) -> Path:
        """Where to make the state."""
        return self._state / _STAGING

    @points.around("ledger.restore")
    def commit(self) -> None:
        """Make what was made in ``folder`` the state."""
        sync_disk(self.folder)
        self.folder.rename(self._state / _READY)
        sync_folder(self._state)
        _move_up(self._state)

    def close(self) -> None:
        """Give the place up, and remove what was not committed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()


def finish(installation: Installation) -> bool:
    """Put a restored state in its place if a crash came before that, and remove what one that was not whole has left;
    say whether there is a restored state now. Raises Conflict when another process is at it."""
    staging, ready = (installation.state / name for name in (_STAGING, _READY))
    if not staging.is_dir() and not ready.is_dir():
        return False
    lock = WriterLock(installation.ledger.with_suffix(".lock"))
    try:
        shutil.rmtree(staging, ignore_errors=True)
        committed = ready.is_dir()
        if committed:
            _move_up(installation.state)
    finally:
        lock.release()
    return committed


def _move_up(state: Path) -> None:
    ready = state / _READY
    names = sorted(_listed(ready), key=lambda name: (name == _LAST, name))
    for name in names:
        _move(ready / name, state / name)
    sync_folder(state)
    ready.rmdir()
    sync_folder(state)


@points.around("ledger.restore")
def _move(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)  # an empty one that a controller made on its way to where it refused to start
    source.rename(target)
