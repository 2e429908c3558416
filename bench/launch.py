"""How long one instance takes from "launch" to its process running, beside what the same parts take by hand.

``measure()`` gives samples in milliseconds, taken in turn:
``raw``      conmon + the runtime with a plain bundle: no network, no filter, no limits, nothing recorded;
``stelae``   ``LocalEngine.launch``: own network, limits, system call filter, log, record;
``network``  the part of it that makes the network;
``four``     four launches at once, until the last one runs;
``docker``   ``docker run -d`` of the same program, when a daemon is given.

Run as ``python -m bench.launch [--rounds N]``, as root.
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
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from bench.dockerd import Docker
from tests.real.busybox import CONFIG, ENVIRONMENT, ErofsRoots, make_erofs, own_installation, process, spec_of

from stelae.platforms.local.engine import LocalEngine
from stelae.platforms.local.network import Network
from stelae.platforms.local.place import Place, exits_folder, place_of
from stelae.platforms.local.runtime import choose_runtime, runtime_of
from stelae.system.installation import Installation
from stelae.system.mount import mount, unmount

PROGRAM = ("sleep", "1000")
DOCKER_IMAGE = "stelae-launch"


def measure(rounds: int = 15, docker: Docker | None = None) -> dict[str, list[float]]:
    """Return the times of *rounds* launches of each kind, in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="stelae-bench-") as name:
        folder = Path(name)
        image = make_erofs(folder)
        if docker is not None:
            _import_image(docker, folder)
        with own_installation(folder) as installation:
            return asyncio.run(_measure(installation, image, rounds, docker))


@contextlib.contextmanager
def crun_allowed() -> Iterator[None]:
    """On a hybrid host, take the last controllers away from cgroup v2 for the time, so that crun runs there.

    Where they are in use nothing is done, and everything is measured with runc.
    """
    unified = Path("/sys/fs/cgroup/unified")
    controllers = _words(unified / "cgroup.controllers")
    point = Path(tempfile.mkdtemp(prefix="stelae-controllers-"))
    mounted = False
    try:
        with contextlib.suppress(OSError):
            for name in _words(unified / "cgroup.subtree_control"):  # runc has left them there
                (unified / "cgroup.subtree_control").write_text(f"-{name}")
            if controllers:
                mount("none", point, "cgroup", data=",".join(controllers))
                mounted = True
        yield
    finally:
        if mounted:
            unmount(point)
        point.rmdir()


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


async def _measure(
    installation: Installation, image: Path, rounds: int, docker: Docker | None
) -> dict[str, list[float]]:
    roots = ErofsRoots(installation, image)
    engine = LocalEngine(installation, roots, lambda _: CONFIG)
    await engine.prepare(spec_of("web-0", process(*PROGRAM)).release)
    network, netns = Network(installation), installation.run / "netns" / "bench"
    address = list(installation.subnet.hosts())[-1]
    times: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        times["raw"].append(_raw(place_of(installation, ENVIRONMENT, f"raw-{number}"), roots.point))  # type: ignore[arg-type]
        began = time.perf_counter()
        await engine.launch(spec_of(f"web-{number}", process(*PROGRAM)))
        times["stelae"].append((time.perf_counter() - began) * 1000)
        times["network"].append(_milliseconds(lambda: network.attach(address, netns)))
        network.detach(address, netns)
        began = time.perf_counter()
        together = [spec_of(f"four-{number}-{index}", process(*PROGRAM)) for index in range(4)]
        await asyncio.gather(*(engine.launch(spec) for spec in together))
        times["four"].append((time.perf_counter() - began) * 1000)
        for seen in await engine.observe(ENVIRONMENT):
            await engine.remove(ENVIRONMENT, seen.id)
        if docker is not None:
            times["docker"].append(_docker(docker))
    await engine.close()
    return dict(times)


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


def _import_image(docker: Docker, folder: Path) -> None:
    tar = folder / "root.tar"
    subprocess.run(["tar", "-C", str(folder / "root"), "-cf", str(tar), "."], check=True)
    docker("import", "-", DOCKER_IMAGE, stdin=tar)


def _docker(docker: Docker) -> float:
    began = time.perf_counter()
    container = docker("run", "-d", "--memory", "64m", DOCKER_IMAGE, *PROGRAM)
    took = (time.perf_counter() - began) * 1000
    docker("rm", "-f", container)
    return took


def _milliseconds(work: object) -> float:
    began = time.perf_counter()
    work()  # type: ignore[operator]
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Print the medians, with ratios to ``raw``."""
    parser = argparse.ArgumentParser(description="launch times")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("launching instances needs root")
    with crun_allowed():
        print(Path(choose_runtime()).name)
        medians = {name: statistics.median(times) for name, times in measure(options.rounds).items()}
    for name, value in medians.items():
        print(f"{name:10}{value:9.1f} ms{value / medians['raw']:8.2f} x raw")


if __name__ == "__main__":
    main()
