"""Programs that do what programs do, for a while, under inspection: none of it is drift.

The guestbook with its worker under requests; Node, which makes code as it runs, in threads too, and sets its title; a
worker that forks many short children, of which some become other programs; and one that says 50 MB a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stelae.domain.digest import Digest
from stelae.domain.process import Tmpfs
from stelae.domain.units import MIB
from stelae.images.tree import Tree, directory, file
from tests.real.busybox import process
from tests.real.drift_ground import Ground, base_tree, own_ground
from tests.real.keeping import lend
from tests.real.machine import SEED

TMP = (Tmpfs(path="/tmp", size=16 * MIB),)

NODE = """
const { Worker, isMainThread } = require('node:worker_threads')
process.title = 'a title that is longer than what stood there before, by far, and then some'
if (isMainThread) { new Worker(__filename) }
const wasm = Uint8Array.from([0,97,115,109,1,0,0,0,1,7,1,96,2,127,127,1,127,3,2,1,0,7,7,1,3,97,100,100,0,0,10,9,1,7,0,
  32,0,32,1,106,11])
let turn = 0
function busy () {
  const made = new Function('a', 'let s = 0; for (let i = 0; i < 20000; i++) s += a * i + ' + turn++ + '; return s')
  for (let i = 0; i < 20; i++) made(i)
  const add = new WebAssembly.Instance(new WebAssembly.Module(wasm)).exports.add
  for (let i = 0; i < 1000; i++) add(i, turn)
  setTimeout(busy, 20)
}
busy()
"""

FORKING = """
import os, random, subprocess, sys, time
children = set()
while True:
    if len(children) < 12:
        child = os.fork()
        if child == 0:
            if random.random() < 0.3:
                os.execv("/bin/sh", ["sh", "-c", "sleep 0.01 & (true; true) | cat; wait"])
            sum(range(random.randrange(200_000)))
            os._exit(0)
        children.add(child)
    while children and (done := os.waitpid(-1, os.WNOHANG)[0]):
        children.discard(done)
    time.sleep(0.004)
"""

TALKING = """
import sys, time
line = b"x" * 99 + b"\\n"
block = line * 10_000
while True:
    began = time.monotonic()
    for _ in range(5):
        sys.stdout.buffer.write(block)
    sys.stdout.flush()
    time.sleep(max(0, 0.1 - (time.monotonic() - began)))
"""
"""5 MB each tenth of a second, or as much as is taken."""


@contextmanager
def benign(folder: Path) -> Iterator[Ground]:
    """Yield a ground that has the guestbook's image too, built before."""
    state = folder / "state"
    state.mkdir(parents=True)
    lend(SEED, state)
    with own_ground(folder) as ground:
        yield ground


async def begin(ground: Ground) -> tuple[str, ...]:
    """Launch them all; return the addresses of those who answer requests."""
    guestbook = next(entry.digest for entry in ground.layout.images() if entry.digest != ground.image)
    python = ("python3", "-u", "-c")
    places = [
        await ground.launch(
            f"web-{number}", process("python3", "-m", "app", memory=256 * MIB, tmpfs=TMP), guestbook
        )
        for number in (1, 2)
    ]  # fmt: skip
    await ground.launch("worker-1", process("python3", "-m", "app.worker"), guestbook)
    await ground.launch("forking-1", process(*python, FORKING, pids=200, memory=256 * MIB), guestbook)
    await ground.launch("talking-1", process(*python, TALKING), guestbook)
    node = shutil.which("node")
    if node is None:
        print("without Node, which is not installed")
    else:
        image = _with_node(ground, Path(node).resolve())
        await ground.launch("node-1", process("node", "/app/main.js", memory=512 * MIB), image)
    found = {item.id: item.address for item in await ground.engine.observe(places[0].environment_id)}
    return tuple(found[place.instance] for place in places)


def _with_node(ground: Ground, program: Path) -> Digest:
    words = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.split()
    files = {Path("/bin/node"): program}
    files |= {path: path.resolve() for word in words if (path := Path(word)).is_absolute()}
    tree = Tree()
    for path, source in files.items():
        for parent in reversed(path.parents[:-1]):
            if (name := str(parent)[1:].encode()) not in tree:
                tree.add(name, directory())
        tree.add(str(path)[1:].encode(), file(source.read_bytes(), 0o755))
    tree.add(b"app", directory())
    tree.add(b"app/main.js", file(NODE.encode()))
    layers = [ground.layout.add_layer(one, mtime=1_000_000_000) for one in (base_tree(), tree)]
    return ground.add_image(*layers)


async def inspect_for(ground: Ground, addresses: tuple[str, ...], seconds: float, every: float) -> int:
    """Inspect again and again under requests, and assert that there is nothing to find, nor anything that could not
    be looked at; return how often. One in twenty looks is a thorough one."""
    alarms: list[str] = []
    ground.engine.alarm(alarms.append)
    ground.engine.watch(lambda _: None)  # so that output is rotated
    ends, count = time.monotonic() + seconds, 0
    asking = asyncio.create_task(_ask(addresses))
    try:
        while time.monotonic() < ends:
            seen = await ground.inspect(thorough=count % 20 == 10)
            assert (seen.findings, seen.missed) == ((), {})
            assert seen.inspected == {spec.instance for spec in ground.specs}
            count += 1
            await asyncio.sleep(every)
    finally:
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
    assert alarms == []
    return count


def said(ground: Ground) -> float:
    """Return how many MB the one that talks has written by now."""
    io = Path(f"/proc/{ground.pid('talking-1')}/io").read_text()
    return int(io.splitlines()[1].split()[1]) / 1e6


async def _ask(addresses: tuple[str, ...]) -> None:
    while True:
        for address in addresses:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(_get, f"http://{address}:8000/")
        await asyncio.sleep(0.02)


def _get(url: str) -> None:
    with urllib.request.urlopen(url, timeout=5) as answer:
        answer.read()
