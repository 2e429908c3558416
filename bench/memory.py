"""The most memory that a build of a large image takes: this process, and each one that it starts.

``python -m bench.memory [MiB]`` prints a table. Each build is in a process of its own, whose peak (VmHWM) is begun
anew just before: that of the parent, or of making the content, plays no part.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.figure import Row, Section
from tests.unit.images.test_layout import manifest_of

from stelae.build import client_git
from stelae.build.builder import Builder, BuildRequest
from stelae.build.mirror import Mirror
from stelae.images.content import Slice
from stelae.images.layout import Layout
from stelae.images.tree import Tree, file

GOAL = 300.0
MIB = 1 << 20
PIECE = 16
"""MiB of one file."""
KINDS = {
    "files": "the commit's files", "run": "files that `run` lines write", "copy": "files copied from a stage",
    "oci": "an OCI archive as the base",
}  # fmt: skip
_SPEC = """
[app]
name = "large"
[image]
base = "{base}"
{more}
[process.web]
command = ["/app/web"]
port = 8000
health = {{ path = "/" }}
"""
_LIMITS = '[image.limits]\ndisk = "8GiB"\n'
_GIT = {f"GIT_{role}_{what}": "bench" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def section(size: int, say: Callable[[str], None]) -> Section:
    """Return the peaks of builds of images of *size* MiB."""
    rows = []
    for kind, words in KINDS.items():
        say(f"memory of a build: {words}")
        command = [sys.executable, "-m", "bench.memory", "--one", kind, str(size)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append(Row(name=f"{words}: the builder", samples=[found["builder"]], goal=GOAL, unit="MiB"))
        name, peak = max(found["children"].items(), key=lambda item: item[1], default=("none", 0))
        rows.append(Row(name=f"… the largest of what it starts ({name})", samples=[peak], goal=GOAL, unit="MiB"))
    return Section(
        title=f"Memory of a build of {size:,} MiB",
        text="The peak of resident memory (VmHWM) of each process, in one build of random bytes. Lower is better.",
        rows=rows, ratios=False,
    )  # fmt: skip


def one(kind: str, size: int) -> dict[str, object]:
    """Build one image in this process and return its peak and those of its children by name, in MiB."""
    folder = Path(tempfile.mkdtemp(prefix="stelae-bench-", dir="/var/tmp"))
    try:
        mirror = Mirror(folder / "sources")
        builder = Builder(Layout.open(folder / "images"), mirror, folder / "cache", folder / "inputs")
        request = _sent(_app(kind, size, folder), mirror, folder)
        with _Children() as children:
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak begins anew
            builder.build(request)
        return {"builder": _peak("self"), "children": children.peaks}
    finally:
        shutil.rmtree(folder)


def _app(kind: str, size: int, folder: Path) -> Path:
    app = folder / "app"
    app.mkdir()
    count = size // PIECE
    base, more = "scratch", ""
    if kind == "files":
        for number in range(count):
            (app / f"f{number}").write_bytes(os.urandom(PIECE * MIB))
    elif kind == "oci":
        base = f"oci:{_archive(count, folder)}"
    else:
        shell = f"oci:{_shell(folder)}"
        work = f"busybox head -c {PIECE * MIB} /dev/urandom > /out/f$i"
        run = f'run = ["busybox mkdir -p /out", "for i in $(busybox seq {count}); do {work}; done"]\n'
        base, more = shell, run + _LIMITS
        if kind == "copy":
            stage = f'[image.stage.made]\nbase = "{shell}"\n{run}'
            base, more = "scratch", f'copy = [{{ from = "made", path = "/out", to = "/data" }}]\n{_LIMITS}{stage}'
    (app / "stelae.toml").write_text(_SPEC.format(base=base, more=more))
    return app


def _shell(folder: Path) -> Path:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("busybox-static is needed")
    layout, tree = Layout.open(folder / "shell"), Tree()
    for name in (b"bin/sh", b"bin/busybox"):
        tree.put(name, file(Path(busybox).read_bytes(), 0o755))
    layout.put_image(manifest_of(layout, layout.add_layer(tree, mtime=1)), name="shell")
    return layout.folder


def _archive(count: int, folder: Path) -> Path:
    content, layout, tree = folder / "content", Layout.open(folder / "base"), Tree()
    with content.open("wb") as out:
        for _ in range(count):
            out.write(os.urandom(PIECE * MIB))
    for number in range(count):
        tree.put(b"data/f%d" % number, file(Slice(content, number * PIECE * MIB, PIECE * MIB)))
    layout.put_image(manifest_of(layout, layout.add_layer(tree, mtime=1)), name="base")
    content.unlink()
    archive = folder / "base.tar"
    subprocess.run(["tar", "-C", layout.folder, "-cf", archive, "oci-layout", "index.json", "blobs"], check=True)
    shutil.rmtree(layout.folder)
    return archive


def _sent(app: Path, mirror: Mirror, folder: Path) -> BuildRequest:
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "large"]):
        command = ["git", "-c", "core.bigFileThreshold=1m", *words]
        subprocess.run(command, cwd=app, check=True, env={**os.environ, **_GIT})
    checkout = client_git.describe(app)
    with client_git.Pack(checkout, checkout.objects()) as pack:
        mirror.receive(checkout.repository, pack)
    shutil.rmtree(app)
    return BuildRequest(repository=checkout.repository, commit=checkout.commit)


class _Children:
    """Looks at what this process has started, again and again; ``peaks`` are by name, in MiB."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Children:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.is_set():
            parents = {pid: _parent(pid) for pid in (item.name for item in Path("/proc").glob("[0-9]*"))}
            family = {str(os.getpid())}
            while more := {pid for pid, parent in parents.items() if parent in family} - family:
                family |= more
            for pid in family - {str(os.getpid())}:
                try:
                    name = Path("/proc", pid, "comm").read_text().strip()
                    self.peaks[name] = max(self.peaks.get(name, 0.0), _peak(pid))
                except (OSError, StopIteration):
                    continue  # it has ended
            time.sleep(0.05)


def _parent(pid: str) -> str:
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1]
    except OSError:
        return ""


def _peak(pid: str) -> float:
    lines = Path("/proc", pid, "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2], int(sys.argv[3]))))
    else:
        size = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
        print(section(size, lambda text: print(text, file=sys.stderr)).markdown())
