"""A log of one event with a key that everybody knows: for tests of what receipts are checked with."""

from __future__ import annotations

import base64
from hashlib import sha256

from stelae.core.merkle import leaf_hash
from stelae.domain.digest import digest_of
from stelae.domain.units import SECOND
from stelae.ledger.checkpoint import Checkpoint
from stelae.ledger.note import COSIGNATURE, Signer
from stelae.ledger.proof import Receipt

SIGNER = Signer("example.com/stelae/1f2e3d4c", bytes(range(32)))

LEAF = (
    b'{"actor":"ana","at":1796040000000000,"body":{"count":3,"process":"web"},"env":"guestbook/production",'
    b'"kind":"environment.scaled","v":1}'
)

_CHECKPOINT = Checkpoint(SIGNER.name, 1, leaf_hash(LEAF)).text

RECEIPT = Receipt(0, LEAF, (), SIGNER.sign(_CHECKPOINT)).text.decode()
"""The proof that LEAF is event 0."""

WITNESS = Signer("witness.example/ana", bytes(range(1, 33)), COSIGNATURE)
_COSIGNED_AT = 1_796_040_000

COSIGNED = (SIGNER.sign(_CHECKPOINT) + WITNESS.cosign(_CHECKPOINT, _COSIGNED_AT)).decode()
"""The checkpoint, with the cosignature of WITNESS."""

POLICY = f"log {SIGNER.verifier.vkey}\nwitness ana {WITNESS.verifier.vkey} http://127.0.0.1:7390\nquorum ana\n"

WITNESSING = {
    "digest": digest_of(POLICY.encode()), "missing": "",
    "witnesses": [
        {
            "name": "ana", "key": WITNESS.verifier.vkey, "url": "http://127.0.0.1:7390", "size": 1,
            "at": _COSIGNED_AT * SECOND, "refused": False, "problem": "",
        }
    ],
}  # fmt: skip
"""What is told of the witness of POLICY."""

POLICY_IN_FORCE = {"text": POLICY, "digest": digest_of(POLICY.encode()), "witnessing": WITNESSING}

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
