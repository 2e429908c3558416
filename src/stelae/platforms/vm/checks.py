"""What an inspection finds of a machine, beside what it finds of the container that QEMU is in.

QEMU is asked for its devices, disks, channels and whether the machine runs; its command line is compared, and the
config disk read again. The disk itself is watched like the layers of images are (``Machines.files``), and its root is
verified by the machine's own kernel at each read: it stops at the first byte that is another one, and says why in its
last lines. What is changed inside the machine's memory is not seen from here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stelae.core.memory import of_machine
from stelae.domain.drift import Drift, Finding
from stelae.domain.errors import Unreachable
from stelae.platforms.local.facts import read
from stelae.platforms.local.inspect.kernel import printable, stat_of
from stelae.platforms.local.inspect.scene import NotInspected, Scene
from stelae.platforms.local.launched import sha256
from stelae.platforms.local.stamp import Stamp, stamp_of
from stelae.platforms.vm.bundle import PIDS, TELLS
from stelae.platforms.vm.command import (
    BLOCKS,
    CHANNELS,
    CONFIG,
    DEVICES,
    OBJECTS,
    PROGRAM,
    SOCKET,
    Machine,
    command_of,
)
from stelae.platforms.vm.qmp import Monitor

_PERIPHERAL, _NAMELESS, _OBJECTS = "/machine/peripheral", "/machine/peripheral-anon", "/objects"
_RUNNING = "running"
_OWN_OBJECTS = frozenset({"pc.ram", "mem"})
"""What QEMU itself makes for the machine's memory."""


@dataclass(slots=True)
class _Config:
    """The config disk at the last sweep."""

    stamp: Stamp | None = None
    changed: bool = False


def accelerator_in(scene: Scene) -> str:
    """Return how the machine of *scene* is run, as its bundle says: another host's choice is no difference."""
    words = scene.bundle["process"]["args"]
    given = words[words.index("-accel") + 1] if "-accel" in words[:-1] else ""
    return "kvm" if given == "kvm" else "tcg"


def against_release(scene: Scene, machine: Machine) -> Iterator[Finding]:
    """Yield what the bundle has otherwise than the release of its *machine*."""
    if tuple(scene.bundle["process"]["args"]) != command_of(machine):
        yield scene.finding(Drift.SETTINGS, "its machine was launched otherwise than its release's")
    resources = scene.bundle["linux"]["resources"]
    limits = resources["memory"]["limit"], resources["pids"]["limit"]
    if limits != (of_machine(machine.process.memory), PIDS):
        yield scene.finding(Drift.SETTINGS, "it was launched with other limits than its release's")


def check(scene: Scene) -> Iterator[Finding]:
    """Yield what is wrong with the machine; raises NotInspected while QEMU cannot be asked, OSError when it ended."""
    yield from _config(scene)
    yield from _command_line(scene)
    try:
        with Monitor(f"/proc/{scene.process.pid}/root{SOCKET}") as monitor:
            answers = _ask(monitor)
    except Unreachable as error:
        raise NotInspected(error.message) from error
    try:
        found = list(differences(answers))
    except (KeyError, TypeError, AttributeError) as error:
        raise NotInspected("QEMU answers in another form") from error
    for what in found:
        yield scene.finding(Drift.SETTINGS, what)


def _config(scene: Scene) -> Iterator[Finding]:
    kept = scene.memory.keep(_Config, _Config)
    path = f"/proc/{scene.process.pid}/root{CONFIG}"
    stamp = stamp_of(path)
    if stamp is None or stamp != kept.stamp:
        kept.stamp = stamp
        kept.changed = stamp is None or sha256(read(path)) != scene.bundle["annotations"][TELLS]
    if kept.changed:
        yield scene.finding(Drift.SETTINGS, "its config disk was changed")


def _command_line(scene: Scene) -> Iterator[Finding]:
    """The child of the first process is the QEMU of the bundle. A process may write over its arguments; QEMU does
    not."""
    wanted = scene.bundle["process"]["args"]
    wanted = wanted[wanted.index(PROGRAM) :] if PROGRAM in wanted else wanted
    children = {}
    for pid in scene.cgroups.members(scene.place.cid):
        stat = stat_of(pid)
        if stat is not None and not stat.ended and stat.parent == scene.process.pid:
            children[pid] = read(f"/proc/{pid}/cmdline").decode("utf-8", "surrogateescape").split("\0")[:-1]
    if not children:
        raise NotInspected("its first process has no children, and should have QEMU")
    if wanted not in children.values():
        yield scene.finding(Drift.SETTINGS, "its QEMU has another command line", f"processes {sorted(children)}")


def _ask(monitor: Monitor) -> dict[str, Any]:
    commands = ("query-status", "query-block", "query-named-block-nodes", "query-chardev", "query-migrate")
    answers = {command: monitor.ask(command) for command in commands}
    return answers | {path: monitor.ask("qom-list", path=path) for path in (_PERIPHERAL, _NAMELESS, _OBJECTS)}


def differences(answers: Mapping[str, Any]) -> Iterator[str]:
    """Yield what QEMU's *answers*, by command or path, tell otherwise than every machine is launched."""
    status = answers["query-status"]["status"]
    if status != _RUNNING:
        yield f"its machine does not run: {printable(str(status))[:100]}"
    yield from _compare("device", _children(answers[_PERIPHERAL]), DEVICES)
    yield from _compare("device", _children(answers[_NAMELESS]), ())
    yield from _compare("object", _children(answers[_OBJECTS]) - _OWN_OBJECTS, OBJECTS)
    yield from _compare("channel", {str(item["label"]) for item in answers["query-chardev"]}, CHANNELS)
    nodes = {str(item["node-name"]) for item in answers["query-named-block-nodes"]}
    yield from _compare("file", nodes, {*BLOCKS, *(f"{name}-file" for name in BLOCKS)})
    for item in answers["query-block"]:
        inserted = item.get("inserted") or {}
        name = str(inserted.get("node-name"))
        if inserted.get("ro") is not True or inserted.get("file") != BLOCKS.get(name):
            yield f"its machine has another disk: {printable(name)[:100]}"
    if answers["query-migrate"]:
        yield "its machine is, or was, being copied elsewhere (migration)"


def _children(items: Collection[Mapping[str, Any]]) -> set[str]:
    return {str(item["name"]) for item in items if str(item["type"]).startswith("child<")}


def _compare(kind: str, there: Collection[str], wanted: Collection[str]) -> Iterator[str]:
    for name in sorted(set(there) - set(wanted)):
        yield f"its machine has a {kind} that it was not launched with: {printable(name)[:100]}"
    for name in sorted(set(wanted) - set(there)):
        yield f"its machine lacks the {kind} {name}"
