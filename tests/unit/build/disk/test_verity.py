"""The hash tree, beside what veritysetup 2.6.1 wrote for the same data."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import UUID

import pytest

from stelae.build.disk.verity import BLOCK, hash_tree

IDENTITY = UUID("12345678-1234-5678-9abc-def012345678")


@pytest.mark.parametrize(
    ("blocks", "salt", "root_hash", "digest"),
    [
        (1, "00", "b587fa297299ce9c602e58292b51379402bf7b1074f6b18679c2fb871c917ca8",
         "611fa9622c67d44992e19e378e87cd8e7c9684170f4e51d1890d23373abbb84f"),
        (128, "00", "5cf35ab39c133a306d425d7c72e98477436cce20eec2d0518670d9171ca64aea",
         "714baae088d108d0b44570f4946df28c879feaeab796d5c444f8e93dc5638025"),
        (257, "00112233445566778899aabbccddeeff", "8a5ab117223eb0be8f0bb6d4d2944ade1a4d05ec3f2a0ff5cb1e2f517998690d",
         "a592014bade9252cc31479c6bbfc1083aaec6ed8bdfc3f4863bc80995f26ac07"),
    ],
)  # fmt: skip
def test_it_is_what_veritysetup_writes(tmp_path: Path, blocks: int, salt: str, root_hash: str, digest: str) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"".join(bytes([number % 251]) * BLOCK for number in range(blocks)))
    tree = hash_tree(file, salt=bytes.fromhex(salt), identity=IDENTITY)
    assert (tree.root_hash, hashlib.sha256(tree.data).hexdigest()) == (root_hash, digest)
