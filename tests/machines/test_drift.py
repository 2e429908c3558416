"""What an inspection finds of an emulated machine that somebody on its host makes another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Drift
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Unreachable
from stelae.domain.observation import Phase
from stelae.platforms.local import record
from stelae.platforms.local.place import place_of
from stelae.platforms.vm.command import SOCKET
from stelae.platforms.vm.qmp import Monitor
from stelae.testing.contract import Subject
from stelae.testing.hand import Hand
from tests.machines.kit import MachineParts, make_disk
from tests.real.contract_parts import own_installation, run_on

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

ONE = InstanceId("web-one-1")


def test_each_difference_is_found_and_goes_with_it(tmp_path: Path) -> None:
    """One machine: it is paused, given a channel, a file and an object, and asked to be copied elsewhere."""

    async def body(subject: Subject) -> None:
        hand = subject.hand()
        await hand.launch(ONE, subject.serving)
        await hand.until(ONE, Phase.READY)
        assert await found(hand) == set()
        found_at = record.load(place_of(parts.installation, EnvironmentId("shop/test"), ONE))
        assert found_at is not None
        assert found_at.process is not None
        socket = f"/proc/{found_at.process.pid}/root{SOCKET}"
        backend = {"type": "null", "data": {}}
        null = {"driver": "null-co", "node-name": "more", "read-only": True}
        machine = "its machine has a"
        for does, undoes, what in (
            (("stop", {}), ("cont", {}), "its machine does not run: paused"),
            (("chardev-add", {"id": "spy", "backend": backend}), ("chardev-remove", {"id": "spy"}),
             f"{machine} channel that it was not launched with: spy"),
            (("blockdev-add", null), ("blockdev-del", {"node-name": "more"}),
             f"{machine} file that it was not launched with: more"),
            (("object-add", {"qom-type": "rng-builtin", "id": "extra"}), ("object-del", {"id": "extra"}),
             f"{machine} object that it was not launched with: extra"),
        ):  # fmt: skip
            with Monitor(socket) as monitor:
                monitor.ask(does[0], **does[1])
            assert await found(hand) == {(Drift.SETTINGS, what)}, does
            with Monitor(socket) as monitor:
                monitor.ask(undoes[0], **undoes[1])
            assert await found(hand) == set(), undoes
        with Monitor(socket) as monitor:
            inspection = await hand.inspect()  # QEMU talks to one at a time
            assert ONE in inspection.missed, "nobody could ask QEMU, and it counts as looked at"
            monitor.ask("migrate", uri="unix:/run/nobody")
        assert (Drift.SETTINGS, "its machine is, or was, being copied elsewhere (migration)") in await found(hand)
        with Monitor(socket) as monitor, pytest.raises(Unreachable):
            monitor.ask("migrate", uri="exec:true")  # to start a program ends QEMU: its system calls are filtered
        await hand.until(ONE, Phase.EXITED)

    disk = make_disk(tmp_path)
    with own_installation() as installation:
        parts = MachineParts(installation, tmp_path / "image.erofs", disk)
        run_on(parts, body)


async def found(hand: Hand) -> set[tuple[Drift, str]]:
    """Return what an inspection finds of the machine, which has to be looked at as a whole."""
    inspection = await hand.inspect(thorough=True)
    assert inspection.inspected == {ONE}, inspection.missed
    return {(item.kind, item.what) for item in inspection.findings}
