from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import InvalidInput
from stelae.platforms.local import inventory, record
from stelae.platforms.local.cgroup import Cgroups
from stelae.platforms.local.network import Network
from stelae.platforms.local.place import Place, cid_to_key, place_of, places
from stelae.platforms.local.process import ProcessId, identify, open_process, send_signal
from stelae.platforms.local.record import Record, Stage
from stelae.system.installation import Installation


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = place_of(Installation(state=tmp_path, run=tmp_path), EnvironmentId("shop/testing"), InstanceId("web-1"))
    made.folder.mkdir(parents=True)
    return made


@pytest.mark.parametrize(
    ("environment", "instance"),
    [("shop", "w"), ("../x/y", "w"), ("a/b/c", "w"), ("a/b", ""), ("a/b", ".."), ("a/b", "w/x"), ("a/b", "w.x"),
     ("a/b", "-w"), ("a/b", "w\n"), ("a/b", "w" * 101), ("/b", "w")],
)  # fmt: skip
def test_names_that_could_lead_elsewhere_are_refused(tmp_path: Path, environment: str, instance: str) -> None:
    with pytest.raises(InvalidInput):
        place_of(Installation(run=tmp_path), EnvironmentId(environment), InstanceId(instance))


def test_places_are_found_again(place: Place) -> None:
    assert list(places(place.installation)) == [place]
    assert cid_to_key(place.cid) == place.key == "shop/testing/web-1"


def test_a_record_reads_as_it_was_written(place: Place) -> None:
    begun = Record(stage=Stage.PREPARING, address=IPv4Address("10.9.0.2"), runtime="/usr/bin/crun")
    for content in (begun, replace(begun, stage=Stage.CREATED, process=ProcessId(1, 2), conmon=ProcessId(3, 4))):
        record.save(place, content)
        assert record.load(place) == content
    assert [path.name for path in place.folder.iterdir()] == ["instance.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"stage": "x"}', '{"stage": "started"}', "\x00"])
def test_a_record_that_cannot_be_read_is_none(place: Place, content: str) -> None:
    place.record.write_text(content)
    assert record.load(place) is None


def test_a_process_is_not_taken_for_a_later_one_with_its_number() -> None:
    with subprocess.Popen(["sleep", "100"]) as child:
        known = identify(child.pid)
        assert known is not None
        other = ProcessId(known.pid, known.started + 1)
        assert not send_signal(other, signal.SIGKILL)
        assert open_process(other) is None
        descriptor = open_process(known)
        assert descriptor is not None
        os.close(descriptor)
        assert send_signal(known, signal.SIGTERM)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert identify(child.pid) is None  # ended, not reaped
    assert identify(known.pid) is None
    assert not send_signal(known, signal.SIGTERM)


class NoGroups(Cgroups):
    """Control groups of which none is there."""

    def __init__(self) -> None:
        pass

    def kill(self, cid: str) -> None:
        pass

    def remove(self, cid: str) -> None:
        pass


def test_what_is_written_while_an_instance_is_taken_away_goes_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "_SWEEP_SECONDS", 0)
    listed, late = inventory._subordinate, [place.folder / "pidfile", place.folder / "ctl"]

    def listed_too_early(there: Place) -> list[Path]:
        found = listed(there)
        if late:
            late.pop().touch()
        return found

    monkeypatch.setattr(inventory, "_subordinate", listed_too_early)
    (place.folder / "config.json").touch()
    inventory.sweep(place, NoGroups(), Network(place.installation), None)
    assert not place.folder.exists()


def test_what_goes_on_writing_is_told_in_the_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_SWEEP_SECONDS", 0)
    monkeypatch.setattr(inventory, "_subordinate", lambda _: [])
    (place.folder / "ctl").touch()
    with pytest.raises(OSError, match="not empty"):
        inventory.sweep(place, NoGroups(), Network(place.installation), None)
