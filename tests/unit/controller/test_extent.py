"""An environment has no more instances than the record can name in one entry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stelae.controller import extent
from stelae.domain import event as ev
from stelae.domain.action import Action, Verb
from stelae.domain.allocation import Allocation, Holding, InstanceId
from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import InvalidInput
from stelae.domain.event import Event, Recorded
from stelae.domain.release import Release
from stelae.ledger import codec
from tests.unit.controller.site import Site, on_site, spec

ENVIRONMENT = EnvironmentId("a" * 31 + "/" + "b" * 31)
LONGEST = "p" * 20
RELEASES = [Release(app="a", environment="b", image=digest_of(name)).id for name in (b"old", b"new")]


def most(process: str) -> int:
    """The largest count that is taken."""
    count = 1
    while True:
        try:
            extent.check(ENVIRONMENT, {process: count + 1}, ["shop.example.com"])
        except InvalidInput:
            return count
        count += 1


def names(process: str, count: int) -> list[InstanceId]:
    """So many instances of each of two releases, after a million launches."""
    return [
        InstanceId(f"{process}-{release[2:8]}-{1_000_000 + number}")
        for release in RELEASES
        for number in range(count)
    ]


def encoded(event: Event) -> bytes:
    return codec.encode(Recorded(index=0, at=2**52, actor="controller", event=event, environment=ENVIRONMENT))


@pytest.mark.parametrize("process", ["w", "web", LONGEST])
def test_what_is_taken_can_be_recorded_and_not_much_less_is_refused(process: str) -> None:
    count = most(process)
    table = dict.fromkeys(names(process, count), 256)
    route = Action(verb=Verb.ROUTE, number=10**9, table=table, hosts=("shop.example.com",))
    assert len(encoded(ev.ActionIntended(action=route))) <= codec.MAX_LEAF
    holdings = tuple(Holding(release=release, process=process, serving=count) for release in RELEASES)
    hanging = Allocation(
        generation=10**9, holdings=holdings, weights=dict.fromkeys(RELEASES, 5000), floor={process: count},
        hosts=("shop.example.com",), condemned=frozenset(table),
    )  # fmt: skip
    assert len(encoded(ev.AllocationSet(allocation=hanging))) <= codec.MAX_LEAF
    more = replace(route, table=dict.fromkeys(names(process, count * 11 // 10), 256))
    with pytest.raises(InvalidInput, match="too large for the record"):
        encoded(ev.ActionIntended(action=more))


def test_the_refusal_names_the_largest_count_that_is_taken() -> None:
    with pytest.raises(InvalidInput, match="1900 instances are more than") as refusal:
        extent.check(ENVIRONMENT, {"web": 1000, "worker": 900}, [])
    word = refusal.value.hint.partition("at most ")[2].partition(";")[0]
    name, _, count = word.partition("=")
    assert name == "worker"
    extent.check(ENVIRONMENT, {"web": 1000, name: int(count)}, [])
    with pytest.raises(InvalidInput):
        extent.check(ENVIRONMENT, {"web": 1000, name: int(count) + 1}, [])


def test_apply_and_scale_refuse_what_the_record_cannot_name(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        with pytest.raises(InvalidInput, match="2000 instances are more than an entry of the record can name"):
            await site.apply(spec(test="processes = { web = 1000, worker = 1000 }"))
        assert site.ledger.size == 0
        await site.apply(spec(test="processes = { web = 1000, worker = 1 }"))
        size = site.ledger.size
        with pytest.raises(InvalidInput, match="2000 instances are more than an entry of the record can name"):
            await site.deployments.scale("ana", {"environment": "shop/test", "processes": {"worker": 1000}})
        assert [item.event.kind for item in site.ledger.read(size, site.ledger.size)] == ["request.refused"]
        assert site.env().wanted == {"web": 1000, "worker": 1}
        await site.deployments.scale("ana", {"environment": "shop/test", "processes": {"worker": 1000, "web": 1}})
        assert site.env().wanted == {"web": 1, "worker": 1000}

    on_site(tmp_path, body)
