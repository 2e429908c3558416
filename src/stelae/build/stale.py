"""Where a lock and what a step would take differ: said in words, never papered over."""

from __future__ import annotations

from collections.abc import Iterable

from stelae.build.lock import AGAIN
from stelae.domain.errors import InvalidInput
from stelae.domain.inputs import Input

_SHOWN = 20


def check_same(locked: Iterable[Input], taken: Iterable[Input]) -> None:
    """Raise InvalidInput when what a step would take now is not what is locked, naming each difference."""
    changes = list(differences(locked, taken))
    if changes:
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise InvalidInput(f"stelae.lock is stale: {changes[0]}{more}", hint=AGAIN, details=tuple(changes[:_SHOWN]))


def differences(locked: Iterable[Input], taken: Iterable[Input]) -> list[str]:
    """Return a line for each input that is locked and not taken, taken and not locked, or another."""
    old, new = ({(item.kind, item.name, item.file): item for item in items} for items in (locked, taken))
    return [
        _line(old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
    ]


def _line(locked: Input | None, taken: Input | None) -> str:
    if locked is None:
        assert taken is not None
        return f"{taken.name} is not locked, {taken.version} offered"
    if taken is None:
        return f"{locked.name} {locked.version} locked, not needed now"
    if locked.version != taken.version:
        return f"{locked.name} {locked.version} locked, {taken.version} offered"
    return f"{locked.name} {locked.version} has other bytes than the locked ones"
