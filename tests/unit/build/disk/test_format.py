"""The bytes of what is written here, for one content: another digest is another ``DISK_FORMAT``.

Disks that are made are signed and verified by digest, and made again years later, so no change may come unseen: what
fails here is a reason to make ``DISK_FORMAT`` grow, and then to write down the new digest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from stelae.build.disk import config_disk_script, cpio, gpt, maker, start_script
from stelae.build.disk.esp import esp
from stelae.build.disk.packages import DISK_FORMAT
from stelae.build.disk.uki import unified
from stelae.build.disk.verity import hash_tree
from stelae.domain.digest import digest_of
from tests.unit.build.disk.test_cpio import ENTRIES
from tests.unit.build.disk.test_gpt import PARTS, SELF
from tests.unit.build.disk.test_uki import stub

KNOWN = {1: "19c78232b6899a6ca751250e1de029188ea01da9155237ed8b5b5405ce18302a"}
"""By format."""


def test_the_bytes_of_a_format_never_change(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"data".ljust(8192, b"\0"))
    table = gpt.table(PARTS, SELF)
    firmware, size = esp(b"program", 1)
    pieces = [
        unified(stub(), {".linux": b"kernel"}), firmware, str(size).encode(), table.head, table.tail,
        cpio.archive(ENTRIES), hash_tree(file, salt=b"salt", identity=SELF).data,
        maker.OPTIONS.encode(), maker.os_release(digest_of(b"image")), str(maker.identity("root", "x")).encode(),
        *(script.read_bytes() for script in (start_script(), config_disk_script())),
        (config_disk_script().parent / "init.sh").read_bytes(),
    ]  # fmt: skip
    found = hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces)).hexdigest()
    assert {DISK_FORMAT: found} == {DISK_FORMAT: KNOWN[DISK_FORMAT]}
