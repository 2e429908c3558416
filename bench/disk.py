"""Disks of ``examples/guestbook``: making one of a cached image beside mkosi, size, boot, and a second machine.

``python -m bench.disk [--rounds N]`` measures and prints this alone, as root, and writes it into the results. The
first run needs the network: mkosi comes from Debian 13's archive into a chroot of its own (``bench/mkosi.py``).

Machines run by software emulation unless KVM works (``stelae doctor`` says so); their times are the emulator's, so
what is Stelae's own is told apart. One that does not answer within ``PATIENCE`` is tried again, and that is said.
"""

from __future__ import annotations

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface
from pathlib import Path

from bench import machine as this_machine
from bench.figure import Row, Section
from bench.mkosi import ADDRESS, PORT, USER, Mkosi
from bench.phases import phases
from bench.results import placed
from tests.ports import free_port
from tests.real.boot_seed import lend_boot
from tests.real.machine import Machine

from stelae.domain.digest import Digest
from stelae.domain.process import Tmpfs
from stelae.domain.units import MIB
from stelae.images.disks import Disks
from stelae.images.layout import Layout
from stelae.platforms.vm.accelerator import accelerator
from stelae.platforms.vm.config_disk import SERIAL, Config, config_disk

Samples = dict[str, list[float]]
Say = Callable[[str], None]

MAKING, COMPRESSED, SECOND = 8_000.0, 130.0, 20.0
"""Goals: milliseconds, MiB, MiB."""

PATIENCE = 240.0
MEMORY = "640M"
ENVIRONMENT = """
[disk]
base = "debian:bookworm"

[env.bench]
platform = "vm"
hosts = ["guestbook.bench.localhost"]
processes = { web = 1 }
strategy = { kind = "blue-green", min_healthy = "0s" }
bake = "0s"
"""
OURS, MAKER, THEIRS = (
    "`stelae build --artifact disk`",
    "… of it in the controller's maker",
    "`mkosi build`, incremental",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What QEMU boots: files, and whether there is a config disk with the three channels beside it."""

    raw: Path
    kernel: Path
    initrd: Path
    cmdline: str
    config: Path | None = None


def sections(rounds: int, say: Say) -> list[Section]:
    """Return the tables of *rounds* runs of each figure."""
    with Machine(checked=False) as ours, tempfile.TemporaryDirectory(prefix="stelae-bench-") as name:
        folder = Path(name)
        _prepare(ours, say)
        theirs = _mkosi(say)
        made, sizes, last = _making(ours, theirs, rounds, say)
        boots = {"Stelae's disk": _ours(ours, last, folder)}
        if theirs is not None:
            boots["mkosi's disk"] = _theirs(theirs)
        booted = {what: _booted(boot, rounds, folder, f"{what}, by QEMU alone", say) for what, boot in boots.items()}
        second = _second(ours, say)
        _roll(ours, rounds, say)
        ours.stop()
        spent = phases(ours.installation.ledger)
    return [_made(made, theirs), *_sizes(sizes, theirs), _boots(booted, spent), _taken(second)]


def _prepare(ours: Machine, say: Say) -> None:
    """Give *ours* the guestbook with a disk and an environment of machines, with an image and a disk."""
    say("disks: the guestbook, and what disks are made with")
    ours.use()
    spec = ours.app / "stelae.toml"
    text = spec.read_text().partition("[env.")[0]
    spec.write_text(text.replace('start = "30s"', f'start = "{PATIENCE:g}s"') + ENVIRONMENT)
    lend_boot(ours.installation.state)
    ours.commit("machines").start()
    ours.cli("build", "--artifact", "disk")
    ours.keep_seed()


def _mkosi(say: Say) -> Mkosi | None:
    """Return mkosi with its cache filled; None where it cannot be had, which is said."""
    say("disks: mkosi and its cache")
    try:
        found = Mkosi()
        found.build()
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        say(f"disks: no mkosi: {str(error)[-500:]}")
        return None
    return found


def _making(ours: Machine, theirs: Mkosi | None, rounds: int, say: Say) -> tuple[Samples, Samples, Digest]:
    """Return milliseconds by tool, MiB by tool and kind, and the last disk of ours."""
    times: Samples = defaultdict(list)
    sizes: Samples = defaultdict(list)
    last = Digest("")
    for number in range(1, rounds + 1):
        say(f"disks: {number} of {rounds}")
        ours.version(f"{number}.0")
        ours.cli("build")
        began = time.perf_counter()
        made = ours.json("build", "--artifact", "disk")["disk"]
        times[OURS].append(_since(began))
        times[MAKER].append(made["seconds"] * 1000)
        last = Digest(made["disk"])
        form = _store(ours).form(last)
        sizes["ours"].append(form.compressed.size / MIB)
        sizes["ours, whole"].append(form.raw.size / MIB)
        if theirs is not None:
            theirs.change(number)
            began = time.perf_counter()
            theirs.build()
            times[THEIRS].append(_since(began))
            sizes["mkosi"].append(theirs.compress() / MIB)
            sizes["mkosi, whole"].append((theirs.output / "guestbook.raw").stat().st_size / MIB)
    return times, sizes, last


def _store(ours: Machine) -> Disks:
    own = ours.installation
    return Disks(Layout.open(own.images), own.cache / "disks")


def _ours(ours: Machine, digest: Digest, folder: Path) -> Boot:
    """Return our disk with a config disk for QEMU's own network."""
    files = _store(ours).open(digest)
    config = folder / "config"
    config.write_bytes(
        config_disk(
            Config(
                command=("python3", "-m", "app"), user=(USER, USER), folder="/app", gateway="10.0.2.2",
                variables={"PATH": "/usr/local/bin:/usr/bin:/bin"}, address=IPv4Interface(f"{ADDRESS}/24"),
                hostname="guestbook", hosts="127.0.0.1 localhost\n", resolvers="",
                tmpfs=(Tmpfs(path="/tmp", size=16 * MIB),),
            )
        )
    )  # fmt: skip
    return Boot(raw=files.raw, kernel=files.kernel, initrd=files.initrd, cmdline=files.cmdline, config=config)


def _theirs(theirs: Mkosi) -> Boot:
    out = theirs.output / "guestbook"
    return Boot(
        raw=out.with_suffix(".raw"), kernel=out.with_suffix(".vmlinuz"), initrd=out.with_suffix(".initrd"),
        cmdline=theirs.cmdline(),
    )  # fmt: skip


def _booted(boot: Boot, rounds: int, folder: Path, what: str, say: Say) -> list[float]:
    """Return milliseconds from the start of QEMU to the first answer of the app, *rounds* times; fewer where it was
    tried twice as often, which is said."""
    times: list[float] = []
    for _ in range(2 * rounds):
        if len(times) == rounds:
            break
        say(f"disks: boot {len(times) + 1} of {rounds}, {what}")
        took = _boot(boot, folder)
        if took is not None:
            times.append(took)
        else:
            say(f"disks: no answer within {PATIENCE:g} s")
    return times


def _boot(boot: Boot, folder: Path) -> float | None:
    port = free_port()
    began = time.perf_counter()
    machine = subprocess.Popen(
        _qemu(boot, port, folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while time.perf_counter() - began < PATIENCE and machine.poll() is None:
            if _answers(port):
                return _since(began)
            time.sleep(0.02)
        return None
    finally:
        machine.kill()
        machine.wait()


def _qemu(boot: Boot, port: int, folder: Path) -> list[str]:
    native = accelerator() == "kvm"
    words = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35",
        "-cpu", "host" if native else "max", "-accel", "kvm" if native else "tcg,tb-size=64",
        "-smp", "1", "-m", MEMORY, "-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", boot.cmdline,
        "-drive", f"if=none,id=disk,format=raw,read-only=on,file={boot.raw}",
        "-device", "virtio-blk-pci,drive=disk,serial=disk",
        "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-{ADDRESS}:{PORT}",
        "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
        "-serial", f"file:{folder / 'console'}",
    ]  # fmt: skip
    if boot.config is not None:
        words += [
            "-drive", f"if=none,id=config,format=raw,read-only=on,file={boot.config}",
            "-device", f"virtio-blk-pci,drive=config,serial={SERIAL}", "-device", "virtio-serial-pci,max_ports=4",
        ]  # fmt: skip
        for number, name in enumerate(("out", "err", "control"), 1):
            words += ["-chardev", f"file,id={name},path={folder / name}"]
            words += ["-device", f"virtserialport,nr={number},chardev={name},name=stelae.{name}"]
    return words


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _second(ours: Machine, say: Say) -> dict[str, float]:
    """Return the MiB that a second machine of one disk takes: on the disk, and in memory that is no machine's."""
    say("disks: a second machine")
    ours.cli("env", "apply")
    _deployed(ours, "bench")
    own = ours.installation
    before = _allocated(own.state), _allocated(own.run)
    ours.cli("scale", "bench", "web=2")
    ours.until("two machines", lambda: ours.ready("bench") == (2, 2), 4 * PATIENCE)
    after = _allocated(own.state), _allocated(own.run)
    ours.cli("scale", "bench", "web=1")
    ours.until("one machine", lambda: ours.ready("bench") == (1, 1), PATIENCE)
    return {"disk": (after[0] - before[0]) / MIB, "memory": (after[1] - before[1]) / MIB}


def _roll(ours: Machine, rounds: int, say: Say) -> None:
    """Deploy a new disk *rounds* times; the record has the times."""
    for number in range(rounds):
        say(f"disks: deployment {number + 1} of {rounds}")
        ours.version(f"{number}.1")
        ours.cli("build", "--artifact", "disk")
        _deployed(ours, "bench")


def _deployed(ours: Machine, environment: str) -> None:
    """Deploy what is committed; a boot that the emulator lost is tried again."""
    for _ in range(3):
        done = ours.cli("deploy", environment, check=False)
        if done.returncode == 0:
            return
    raise RuntimeError(f"three deployments failed: {done.stdout[-2000:]}")


def _allocated(folder: Path) -> int:
    """Return the bytes that all files below *folder* take, each once."""
    found = {}
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                seen = Path(path, name).lstat()
            except FileNotFoundError:
                continue
            found[seen.st_dev, seen.st_ino] = seen.st_blocks * 512
    return sum(found.values())


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def _made(times: Samples, theirs: Mkosi | None) -> Section:
    rows = [
        Row(name=OURS, samples=times[OURS], goal=MAKING),
        Row(name=MAKER, samples=times[MAKER]),
    ]
    if theirs is not None:
        rows.append(Row(name=THEIRS, samples=times[THEIRS]))
    return Section(
        title="Disk of `examples/guestbook`, one source file changed",
        text=(
            "Whole commands, in turn, everything but the change cached. Ours begins with the OCI image there, and "
            "stores the disk compressed, recorded and signed with its SBOM and provenance; mkosi's has the same "
            "packages, wheels, files and kernel, and writes the disk as it is, with none of these."
        ),
        rows=rows,
    )


def _sizes(sizes: Samples, theirs: Mkosi | None) -> list[Section]:
    def section(title: str, text: str, key: str, goal: float | None) -> Section:
        rows = [Row(name="Stelae", samples=sizes[f"ours{key}"], unit="MiB", goal=goal)]
        if theirs is not None:
            rows.append(Row(name="mkosi", samples=sizes[f"mkosi{key}"], unit="MiB"))
        return Section(title=title, text=text, rows=rows)

    inside = ""
    if theirs is not None:
        inside = (
            f" The root of {theirs.version} is of {theirs.packages()} packages, with those that Debian's kernel "
            "depends on; its initrd is made of systemd and udev; its ESP has 64 MiB."
        )
    return [
        section("Size of the disk, compressed", "What is sent and stored: zstd at level 3.", "", COMPRESSED),
        section("Size of the disk", f"What a machine gets, its empty parts too.{inside}", ", whole", None),
    ]


def _boots(booted: Samples, spent: Samples) -> Section:
    kind = "KVM" if accelerator() == "kvm" else "software emulation (KVM does not work here)"
    parts = list(spent.values())
    deployed = [sum(times) for times in zip(*parts, strict=True)]
    machine = parts[2]
    rows = [Row(name=f"{what}, by QEMU alone", samples=times) for what, times in booted.items() if times]
    rows += [
        Row(name="Stelae, a deployment: from the request's record to all traffic on the machine", samples=deployed),
        Row(name="… of it the machine: its kernel, its first program, the app", samples=machine),
        Row(
            name="… of it Stelae's own",
            samples=[whole - inside for whole, inside in zip(deployed, machine, strict=True)],
        ),
    ]  # fmt: skip
    return Section(
        title="Boot of a machine to its first served request",
        text=(
            f"By {kind}, one processor; without firmware. By QEMU alone: from its start to the first answer of the "
            "app, over QEMU's own network. mkosi's machine has for its first program one small Python file that "
            "becomes the app. Stelae's own part is: what is recorded, network, config disk, container and start of "
            "QEMU, and the proxy's table; the times are those of the record."
        ),
        rows=rows,
    )


def _taken(second: dict[str, float]) -> Section:
    return Section(
        title="A second machine of the same disk",
        text=(
            "What the files of the installation take more when a second machine serves: all machines share the "
            "disk's one file. In memory: the config disk and what its container needs, beside the machine's own."
        ),
        rows=[
            Row(name="on the disk", samples=[second["disk"]], unit="MiB", goal=SECOND),
            Row(name="in memory", samples=[second["memory"]], unit="MiB"),
        ],
        ratios=False,
    )


def main() -> None:
    """Measure, print, and write into the results."""
    parser = argparse.ArgumentParser(description="measure disks and machines")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each figure")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("launching machines needs root")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its bytecode
    before = this_machine.load()
    found = sections(options.rounds, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    load = f"a load average of {before:.1f} when it began and {this_machine.load():.1f} when it ended"
    alone = f"Measured by `python -m bench.disk` alone, with {load} on {os.cpu_count()} processors."
    tables = [replace(section, text=f"{alone} {section.text}").markdown() for section in found]
    options.output.write_text(placed(options.output.read_text(), tables))
    print("\n".join(tables))


if __name__ == "__main__":
    main()
