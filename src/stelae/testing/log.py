"""A log of one event with a key that everybody knows: for tests of what receipts are checked with."""

from __future__ import annotations

import base64
from hashlib import sha256

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

_ARCHIVE = b"what a tar of the log begins with"

EXPORTED = [
    {"progress": {"data": base64.b64encode(_ARCHIVE).decode()}},
    {
        "result": {
            "origin": SIGNER.name, "size": 1, "root": leaf_hash(LEAF).hex(), "bytes": len(_ARCHIVE),
            "sha256": sha256(_ARCHIVE).hexdigest(),
        }
    },
]  # fmt: skip
"""What the export of a log answers: one piece, and what all of them are."""
