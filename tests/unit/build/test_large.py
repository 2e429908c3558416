"""Large content goes through the disk, not through memory; what images share is stored once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from stelae.build.git import Reader
from stelae.build.spool import SMALL, Spool
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.units import MIB
from stelae.images.content import Slice, read
from stelae.images.layout import Layout
from stelae.images.tree import Tree, file
from tests.unit.images.test_layout import manifest_of

from .repository import Repository
from .workshop import Workshop, spec

LARGE = 64 * MIB
ROOM = 24 * MIB
"""How much more memory a build may have than one of nothing: for the interpreter, pieces on their way, and chance."""

BUILD = """
import sys
from pathlib import Path
from stelae.build.builder import BuildRequest
from tests.unit.build.workshop import Workshop
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
workshop = Workshop(Path(sys.argv[1]))
requests = [BuildRequest(repository=sys.argv[2], commit=commit) for commit in sys.argv[3:]]
peaks = []
for request in requests:
    workshop.builder.build(request)
    peaks.append(peak())
print(*peaks)
"""


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_a_large_file_is_never_in_memory(repository: Repository, workshop: Workshop) -> None:
    """In a process of its own: the peak of this one is that of all tests before."""
    repository.commit({"stelae.toml": spec(), "a": "1"})
    small = workshop.send(repository)
    repository.commit({"one": bytes(LARGE), "two": bytes(LARGE // 2)})
    large = workshop.send(repository)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(workshop.folder), small.repository, small.commit, large.commit],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = (int(word) * 1024 for word in done.stdout.split())
    assert after - before < ROOM
    built = workshop.build(repository)
    tree = workshop.tree(built.image.digest)
    assert read(tree[b"app/one"].content) == bytes(LARGE)
    assert read(tree[b"app/two"].content) == bytes(LARGE // 2)


def test_contents_come_from_git_in_order_small_and_large(repository: Repository, workshop: Workshop) -> None:
    files = {f"f{number}": noise(size) for number, size in enumerate([0, 1, SMALL, SMALL + 1, 3 * MIB + 7])}
    repository.commit({**files, "stelae.toml": spec()})
    request = workshop.send(repository)
    with workshop.mirror.read(request.repository) as reader:
        tree = workshop.mirror.tree(reader, request.commit, "")
        names = [entry.blob for entry in workshop.mirror.export(request.repository, tree)][: len(files)]
        asked = [*names, "0" * 40, tree, *reversed(names)]
        found = list(reader.contents(asked, Spool(workshop.folder / "spool")))
        assert [None if item is None else read(item) for item in found] == [
            *files.values(), None, None, *reversed(files.values())
        ]  # fmt: skip
        assert [isinstance(item, Slice) for item in found[:5]] == [False, False, False, True, True]


def test_git_that_ends_early_is_told(repository: Repository, workshop: Workshop, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"%s blob 100\nabc" % (b"a" * 40))
    os.close(writing)
    with (
        os.fdopen(reading, "rb") as stdout,
        (tmp_path / "in").open("wb") as stdin,
        pytest.raises(Failed, match="ended before"),
    ):
        list(Reader(stdin, stdout).contents(["a" * 40], Spool(tmp_path / "spool")))


def test_a_link_to_an_endless_name_is_refused(repository: Repository, workshop: Workshop) -> None:
    target = repository.git("hash-object", "-w", "--stdin", stdin=b"x" * (SMALL + 1))
    repository.commit({"stelae.toml": spec()})
    repository.git("update-index", "--add", "--cacheinfo", f"120000,{target},link")
    repository.git("commit", "-q", "-m", "link")
    request = workshop.send(repository)
    with pytest.raises(InvalidInput, match="too long"):
        workshop.builder.build(request)


def test_two_images_that_share_a_base_store_it_once(tmp_path: Path, workshop: Workshop) -> None:
    base = Layout.open(tmp_path / "base")
    tree = Tree()
    tree.put(b"usr/lib/large", file(noise(8 * MIB)))
    layer = base.add_layer(tree, mtime=1)
    base.put_image(manifest_of(base, layer), name="")
    sizes = []
    for name in ("shop", "mail"):
        app = Repository(tmp_path / name)
        app.commit({"stelae.toml": spec(base=f"oci:{base.folder}").replace("shop", name), "file": name})
        built = workshop.build(app)
        assert layer[0] in built.image.layers
        assert built.image.size > 8 * MIB
        sizes.append(sum(path.stat().st_size for path in workshop.layout.blobs.folder.iterdir()))
    assert sizes[1] - sizes[0] < 64 * 1024, "only its own files and documents are new"
