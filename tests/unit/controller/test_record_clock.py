"""A record whose times are ahead of the machine's clock says so, before anything is recorded with such a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from stelae.controller.record import Record
from stelae.controller.sentences import matters, sentence
from stelae.domain import event as ev
from stelae.domain.units import HOUR, MINUTE, SECOND
from stelae.ledger.projection import Projections
from stelae.ledger.store import Ledger


def test_a_clock_that_was_put_back_is_recorded_and_that_it_is_right_again(tmp_path: Path) -> None:
    async def whole() -> None:
        far = [0]
        ledger = Ledger.open(tmp_path / "ledger.db", clock=lambda: 5 * HOUR, reserve=0)
        record = Record(ledger, Projections(tmp_path / "projections", ledger), lambda: far[0])
        heard: list[str] = []
        record.listen(lambda item: heard.append(sentence(item.event)))
        started = [ev.ControllerStarted(version="1")]
        for far[0] in (0, 2 * HOUR, HOUR, HOUR + SECOND, 4 * HOUR, MINUTE, 0, SECOND // 2, 0):
            (item,) = await record.append(started)
            assert isinstance(item.event, ev.ControllerStarted), "whoever asks gets what was asked for"
        await record.append([])
        record.close()
        told = "the machine's clock was put back: recorded times are up to {} h ahead of it"
        mine = "controller 1 started"
        again = "recorded times are the machine's again"
        assert heard == [
            mine, told.format(2), mine, mine, mine, told.format(4), mine, mine, again, mine, mine, mine
        ]  # fmt: skip
        assert all(matters(item.event) for item in Ledger.open(tmp_path / "ledger.db", clock=lambda: 0).read())

    asyncio.run(whole())
