"""A log of one event with a key that everybody knows: for tests of what receipts are checked with."""

from __future__ import annotations

from stelae.core.merkle import leaf_hash
from stelae.ledger.checkpoint import Checkpoint
from stelae.ledger.note import Signer
from stelae.ledger.proof import Receipt

SIGNER = Signer("example.com/stelae/1f2e3d4c", bytes(range(32)))

LEAF = (
    b'{"actor":"ana","at":1796040000000000,"body":{"count":3,"process":"web"},"env":"guestbook/production",'
    b'"kind":"environment.scaled","v":1}'
)

RECEIPT = Receipt(0, LEAF, (), SIGNER.sign(Checkpoint(SIGNER.name, 1, leaf_hash(LEAF)).text)).text.decode()
"""The proof that LEAF is event 0."""
