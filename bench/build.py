"""How long a build takes: cold, with nothing changed, and with one source file changed.

Prints JSON. Cold needs the network (Debian's archive, the package index). With a folder as its argument the
store is kept there, and "cold" of the next run is no longer cold.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stelae.build import client_git
from stelae.build.builder import Builder, BuildRequest
from stelae.build.mirror import Mirror
from stelae.images.layout import Layout

GUESTBOOK = Path(__file__).parents[1] / "examples" / "guestbook"
ROUNDS = 10


def measure(folder: Path | None = None) -> dict[str, float]:
    """Build the guestbook in *folder* (a new one by default) and return seconds: ``cold_s``, and the medians of
    ``unchanged_s`` and ``changed_s`` (in the builder) and ``send_s`` (commit to objects in the mirror)."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="stelae-bench-") as name:
            return measure(Path(name))
    with tempfile.TemporaryDirectory(prefix="stelae-bench-source-") as name:
        source = Path(name, "guestbook")
        shutil.copytree(GUESTBOOK, source, ignore=shutil.ignore_patterns("__pycache__"))
        _git(source, "init", "-q")
        mirror = Mirror(folder / "sources")
        builder = Builder(Layout.open(folder / "images"), mirror, folder / "cache", folder / "inputs")
        request, _ = _commit_and_send(source, mirror, folder)
        cold = builder.build(request).seconds
        unchanged = [builder.build(request).seconds for _ in range(ROUNDS)]
        changed, sent = [], []
        for number in range(ROUNDS):
            (source / "app" / "version.py").write_text(f'VERSION = "{number}.{time.time_ns()}"\n')
            request, seconds = _commit_and_send(source, mirror, folder)
            sent.append(seconds)
            changed.append(builder.build(request).seconds)
    return {
        "cold_s": round(cold, 3),
        "unchanged_s": round(statistics.median(unchanged), 4),
        "changed_s": round(statistics.median(changed), 4),
        "send_s": round(statistics.median(sent), 4),
    }


def _commit_and_send(source: Path, mirror: Mirror, folder: Path) -> tuple[BuildRequest, float]:
    _git(source, "add", "-A")
    _git(source, "commit", "-q", "-m", "Change")
    start = time.perf_counter()
    checkout = client_git.describe(source)
    needed = mirror.missing(checkout.repository, checkout.objects())
    with client_git.Pack(checkout, needed) as pack:
        mirror.receive(checkout.repository, pack)
    request = BuildRequest(repository=checkout.repository, commit=checkout.commit)
    return request, time.perf_counter() - start


def _git(folder: Path, *arguments: str) -> None:
    who = {f"GIT_{role}_{what}": "bench" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", *arguments], cwd=folder, env={**os.environ, **who}, check=True)


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]) if len(sys.argv) > 1 else None), indent=2))
