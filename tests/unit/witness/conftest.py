"""A log in memory, and a witness that trusts it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from stelae.core import merkle
from stelae.ledger.checkpoint import Checkpoint
from stelae.ledger.note import Signer
from stelae.witness.request import request_body
from stelae.witness.witness import Witness, init

NOON = 1_796_040_000_000_000
SIGNER = Signer("example.com/log", bytes(range(32)))


class Log:
    """A log of numbered leaves; two of another *seed* differ from leaf *fork* on."""

    def __init__(self, size: int, *, signer: Signer = SIGNER, seed: str = "", fork: int = 0) -> None:
        self.signer = signer
        self._nodes: list[bytes] = []
        frontier = merkle.Frontier()
        for number in range(size):
            leaf = f"{seed if number >= fork else ''}{number}".encode()
            self._nodes += frontier.append(merkle.leaf_hash(leaf))

    def read(self, indexes: Sequence[int]) -> list[bytes]:
        return [self._nodes[index] for index in indexes]

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(self.signer.name, size, merkle.root_at(size, self.read))

    def signed(self, size: int) -> bytes:
        return self.signer.sign(self.checkpoint(size).text)

    def proof(self, old: int, size: int) -> tuple[bytes, ...]:
        return merkle.consistency_proof(old, size, self.read)

    def asked(self, old: int, size: int) -> bytes:
        return request_body(old, self.proof(old, size), self.signed(size))


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def witness(tmp_path: Path, clock: Clock) -> Iterator[Witness]:
    init(tmp_path / "w", "witness.example/ana")
    made = Witness(tmp_path / "w", clock)
    made.trust(SIGNER.verifier)
    yield made
    made.close()
