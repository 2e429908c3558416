"""Keys that are refused for a reason: those of a later Stelae, and volumes, which no Stelae has."""

from __future__ import annotations

from stelae.spec.problem import Path, Problem

VOLUMES = frozenset({"volume", "volumes", "mount", "mounts"})

HOST_NAME = "host.stelae.internal"
"""The name by which an instance reaches the machine it runs on (the gateway of the bridge)."""

NO_VOLUMES = (
    "volumes are refused, because an instance is replaced and never kept, so its data would be lost with it or "
    f"shared between two releases; keep data in a database, on this machine as {HOST_NAME} (the bridge's gateway, "
    "on which the database must listen) or at any address on the network, and put that address in settings"
)

_LATER: dict[Path, frozenset[str]] = {
    (): frozenset({"policy"}),
    ("process", "*"): frozenset({"freeze", "secrets"}),
    ("env", "*", "strategy"): frozenset({"freeze"}),
}
_STRATEGY = frozenset({"abort_on", "canary", "soak", "steps"})
"""Keys that people write beside a strategy, and that belong into it."""

_OTHER_LOCKS = ("poetry.lock", "pdm.lock", "Pipfile.lock", "Pipfile")


def later_keys(parent: Path) -> frozenset[str]:
    """Return the keys of the table at *parent* that a later Stelae will know."""
    for place, keys in _LATER.items():
        if len(place) == len(parent) and all(want in ("*", part) for want, part in zip(place, parent, strict=True)):
            return keys
    return frozenset()


def refused_key(path: Path) -> list[Problem]:
    """Return why the unknown key at *path* is refused, or nothing when it is just unknown."""
    key = path[-1]
    if key in VOLUMES:
        return [Problem(path=path, text=NO_VOLUMES)]
    if len(path) == 3 and path[0] == "env" and key in _STRATEGY:
        return [Problem(path=path, text='unknown key here; it belongs into "strategy"')]
    if key not in later_keys(path[:-1]):
        return []
    return [Problem(path=path, text="", unsupported=True)]


def is_other_lock(path: str) -> bool:
    """True for the lock files of Python tools that Stelae does not read."""
    return path.rsplit("/", 1)[-1] in _OTHER_LOCKS
