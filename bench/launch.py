"""How long one instance takes from "launch" to its process running, beside what the same parts take by hand.

``measure()`` gives medians in milliseconds:
``raw``      conmon + the runtime with a plain bundle: no network, no filter, no limits, nothing recorded;
``stelae``   ``LocalEngine.launch``: own network, limits, system call filter, log, record;
``network``  the part of it that makes the network;
``four``     four launches at once, until the last one runs;
``docker``   ``docker run -d`` of the same program, when asked for and a daemon answers.

Run as ``python -m bench.launch [--docker] [--rounds N]``, as root.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.real.busybox import CONFIG, ENVIRONMENT, ErofsRoots, make_erofs, own_installation, process, spec_of

from stelae.platforms.local.engine import LocalEngine
from stelae.platforms.local.network import Network
from stelae.platforms.local.place import Place, exits_folder, place_of
from stelae.platforms.local.runtime import choose_runtime, runtime_of
from stelae.system.installation import Installation
from stelae.system.mount import mount, unmount

PROGRAM = ("sleep", "1000")


def measure(rounds: int = 15, *, docker: bool = False) -> dict[str, float | str]:
    """Return the medians of *rounds* launches of each kind in milliseconds, and the runtime's name."""
    with tempfile.TemporaryDirectory(prefix="stelae-bench-") as name, _crun_allowed(Path(name)):
        folder = Path(name)
        image = make_erofs(folder)
        with own_installation(folder) as installation:
            result = asyncio.run(_measure(installation, image, rounds))
        if docker:
            result["docker"] = _docker(folder / "root", rounds)
    return result


@contextlib.contextmanager
def _crun_allowed(folder: Path) -> Iterator[None]:
    """On a hybrid host, take the last controllers away from cgroup v2 for the time, so that crun runs there."""
    left = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    controllers = left.read_text().split() if left.exists() else []
    if not controllers:
        yield
        return
    point = folder / "controllers"
    point.mkdir()
    mount("none", point, "cgroup", data=",".join(controllers))
    try:
        yield
    finally:
        unmount(point)


async def _measure(installation: Installation, image: Path, rounds: int) -> dict[str, float | str]:
    roots = ErofsRoots(installation, image)
    engine = LocalEngine(installation, roots, lambda _: CONFIG)
    await engine.prepare(spec_of("web-0", process(*PROGRAM)).release)
    network, netns = Network(installation), installation.run / "netns" / "bench"
    address = list(installation.subnet.hosts())[-1]
    raw, own, four, networks = [], [], [], []
    for number in range(rounds):
        raw.append(_raw(place_of(installation, ENVIRONMENT, f"raw-{number}"), roots.point))  # type: ignore[arg-type]
        began = time.perf_counter()
        await engine.launch(spec_of(f"web-{number}", process(*PROGRAM)))
        own.append((time.perf_counter() - began) * 1000)
        networks.append(_milliseconds(lambda: network.attach(address, netns)))
        network.detach(address, netns)
        began = time.perf_counter()
        together = [spec_of(f"four-{number}-{index}", process(*PROGRAM)) for index in range(4)]
        await asyncio.gather(*(engine.launch(spec) for spec in together))
        four.append((time.perf_counter() - began) * 1000)
        for seen in await engine.observe(ENVIRONMENT):
            await engine.remove(ENVIRONMENT, seen.id)
    await engine.close()
    return {
        "runtime": Path(choose_runtime()).name,
        "raw": statistics.median(raw),
        "stelae": statistics.median(own),
        "network": statistics.median(networks),
        "four": statistics.median(four),
    }


def _raw(place: Place, root: Path) -> float:
    """Start a program by conmon and the runtime alone, with the bundle that ``crun spec`` gives."""
    binary = choose_runtime()
    runtime = runtime_of(place.installation, binary)
    for folder in (place.folder, place.logs, exits_folder(place.installation)):
        folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([binary, "spec"], cwd=place.folder, check=True)
    config = json.loads((place.folder / "config.json").read_text())
    config["process"].update(terminal=False, args=list(PROGRAM), env=["PATH=/bin"])
    config["process"].pop("rlimits", None)
    config["root"] = {"path": str(root), "readonly": True}
    config["mounts"] = [entry for entry in config["mounts"] if entry["destination"] != "/sys/fs/cgroup"]
    (place.folder / "config.json").write_text(json.dumps(config))
    words = [
        shutil.which("conmon") or "conmon", "--api-version", "1", "-c", place.cid, "-u", place.cid, "-r", binary,
        "--runtime-arg", f"--root={runtime.state}", "-b", str(place.folder), "-p", str(place.folder / "pid"),
        "--exit-dir", str(exits_folder(place.installation)), "-l", f"k8s-file:{place.log}", "--full-attach",
    ]  # fmt: skip

    def start() -> None:
        answer, sync = os.pipe()
        environment = {**os.environ, "_OCI_SYNCPIPE": str(sync)}
        subprocess.run(words, check=True, pass_fds=(sync,), env=environment, stdin=subprocess.DEVNULL)
        os.close(sync)
        assert json.loads(os.read(answer, 4096))["data"] > 0
        os.close(answer)
        subprocess.run([binary, f"--root={runtime.state}", "start", place.cid], check=True)

    took = _milliseconds(start)
    os.kill(int((place.folder / "pid").read_text()), signal.SIGKILL)
    runtime.delete(place.cid)
    shutil.rmtree(place.folder)
    return took


def _docker(root: Path, rounds: int) -> float:
    tar = subprocess.run(["tar", "-C", str(root), "-c", "."], check=True, capture_output=True).stdout
    subprocess.run(["docker", "import", "-", "stelae-bench"], input=tar, check=True, capture_output=True)
    took = []
    try:
        for _ in range(rounds):
            began = time.perf_counter()
            words = ["docker", "run", "-d", "--rm", "stelae-bench", "/bin/sleep", "1000"]
            container = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
            took.append((time.perf_counter() - began) * 1000)
            subprocess.run(["docker", "kill", container], check=True, capture_output=True)
    finally:
        subprocess.run(["docker", "rmi", "-f", "stelae-bench"], check=False, capture_output=True)
    return statistics.median(took)


def _milliseconds(work: object) -> float:
    began = time.perf_counter()
    work()  # type: ignore[operator]
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Print the figures, with ratios to ``raw``."""
    parser = argparse.ArgumentParser(description="launch times")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--docker", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("launching instances needs root")
    result = measure(options.rounds, docker=options.docker)
    raw = result["raw"]
    for name, value in result.items():
        if isinstance(value, float) and isinstance(raw, float):
            print(f"{name:10}{value:9.1f} ms{value / raw:8.2f} x raw")
        else:
            print(f"{name:10}{value:>9}")


if __name__ == "__main__":
    main()
