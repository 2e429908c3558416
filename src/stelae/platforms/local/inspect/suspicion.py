"""What a look at a process found, before a second look says the same."""

from __future__ import annotations

from stelae.domain.drift import Drift


class Suspicion:
    """A difference of a process: its kind, the sentence that it is known by, and what speaks for it."""

    __slots__ = ("evidence", "kind", "what")

    def __init__(self, kind: Drift, what: str, *evidence: str) -> None:
        self.kind = kind
        self.what = what
        self.evidence = evidence
