"""A sweep: what a check of one instance cannot bear hides nothing of the others, and is never taken for health."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any, cast

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.drift import Drift, Finding
from stelae.domain.environment import EnvironmentId
from stelae.domain.event import DriftFound, Recorded
from stelae.ledger.codec import decode, encode
from stelae.platforms.local.facts import Facts
from stelae.platforms.local.inspect import processes, sweep
from stelae.platforms.local.inspect.scene import Scene
from stelae.platforms.local.inspect.sweep import Inspector
from stelae.platforms.local.launched import Launched
from stelae.platforms.local.process import identify
from stelae.platforms.local.record import Record, Stage
from stelae.platforms.port import LaunchSpec

SHOP = EnvironmentId("shop/test")


class NoLayers:
    """Layers at which there is nothing to see, and that are read for as long as they are not ``free``."""

    def __init__(self) -> None:
        self.reads = threading.Event()
        self.free = threading.Event()

    def sweep(self, used: object) -> None:
        """See ``Layers.sweep``."""

    def read(self, files: object) -> None:
        """See ``Layers.read``."""
        self.reads.set()
        assert self.free.wait(20)


def spec(name: str) -> LaunchSpec:
    return LaunchSpec(environment=SHOP, instance=InstanceId(name), release=cast(Any, None), process=cast(Any, None))


def scene_of(asked: LaunchSpec) -> Scene:
    """Return the scene of an instance that is this process."""
    process = identify(os.getpid())
    assert process is not None
    facts = Facts(mounts=(), namespaces={}, cgroups={}, limits={}, root=(0, 0), oom_score=0)
    place: Any = type("Place", (), {"key": f"{asked.environment}/{asked.instance}"})
    return Scene(
        spec=asked, place=place, process=process, bundle={}, cgroups=cast(Any, None), layers=cast(Any, None),
        form=cast(Any, None),
        launched=Launched(bundle="", files={}, limits={}, layers={}, facts=facts, process=process),
        record=Record(stage=Stage.STARTED, address=IPv4Address("10.0.0.2"), runtime="crun", process=process),
    )  # fmt: skip


def test_a_check_that_cannot_bear_what_it_sees_hides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def delicate(scene: Scene) -> Iterator[Finding]:
        if scene.spec.instance == "web-1":
            b"\xff".decode()
        yield scene.finding(Drift.MOUNT, "first")

    def sound(scene: Scene) -> Iterator[Finding]:
        yield scene.finding(Drift.CODE, "second")

    monkeypatch.setattr(sweep, "CHECKS", (delicate, sound))
    monkeypatch.setattr(sweep, "CHECKS_OF_ALL", ())
    monkeypatch.setattr(Inspector, "_scene", lambda _, asked, result: scene_of(asked))
    inspector = Inspector(cast(Any, None), cast(Any, None), cast(Any, NoLayers()), cast(Any, None))
    found = inspector.sweep(SHOP, [spec("web-1"), spec("web-2")])
    assert [(item.instance, item.what) for item in found.findings] == [
        ("web-1", "second"), ("web-2", "first"), ("web-2", "second"),
    ]  # fmt: skip
    assert found.inspected == {"web-2"}
    assert found.missed == {"web-1": "a check failed: UnicodeDecodeError"}


def test_others_are_inspected_while_the_layers_of_one_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "CHECKS", ())
    monkeypatch.setattr(sweep, "CHECKS_OF_ALL", ())
    monkeypatch.setattr(Inspector, "_scene", lambda _, asked, result: scene_of(asked))
    layers = NoLayers()
    inspector = Inspector(cast(Any, None), cast(Any, None), cast(Any, layers), cast(Any, None))
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(inspector.sweep, SHOP, [spec("web-1")], thorough=True)
        assert layers.reads.wait(20)
        try:
            assert inspector.sweep(EnvironmentId("shop/other"), [spec("web-2")]).inspected == {"web-2"}
            assert not slow.done()
        finally:
            layers.free.set()
        assert slow.result(20).inspected == {"web-1"}


def test_another_first_process_than_was_launched_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_look", lambda *_: {})
    scene = scene_of(spec("web-1"))
    assert list(processes.check(scene)) == []
    parent = identify(os.getppid())
    assert parent is not None
    (found,) = processes.check(replace(scene, process=parent))
    assert (found.kind, found.what) == (Drift.PROCESS, "its first process is not the one that was launched")
    assert found.evidence == (f"process {os.getpid()} was launched, and {parent.pid} is told",)


@pytest.mark.parametrize("name", [b"/data/\xff\xfe", b"/data/\x1b[2J\n\r\0", "/data/\u202e\u2028".encode()])
def test_a_difference_is_recorded_whatever_names_are_in_it(name: bytes) -> None:
    found = scene_of(spec("web-1")).finding(Drift.MOUNT, f"mounted at {os.fsdecode(name)}", os.fsdecode(name))
    event = DriftFound(instance=found.instance, drift=found.kind, what=found.what, evidence=found.evidence)
    item = Recorded(index=0, at=1, actor="controller", environment=SHOP, event=event)
    assert decode(0, encode(item)) == item
    assert found.what.isprintable()
    assert found.what.startswith("mounted at /data/")
