"""A record that another controller has taken over while something was being recorded, and who waited has gone."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stelae.domain.event import Scaled
from stelae.ledger.faults import Replaced, replaced
from tests.unit.controller.site import TEST, Site, on_site


@pytest.mark.parametrize("leaves", [True, False])
def test_an_error_that_nobody_waits_for_any_more_is_not_logged_as_forgotten(
    leaves: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[Any] = []
    told: list[Exception] = []

    async def body(site: Site) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: forgotten.append(context))
        writes, go = threading.Event(), threading.Event()

        def refuse(*_: Any, **__: Any) -> None:
            writes.set()
            go.wait(30)
            raise replaced(tmp_path)

        async def ask() -> None:
            try:
                await site.record.append([Scaled(process="web", count=1)], environment=TEST)
            except Replaced as error:
                told.append(error)

        monkeypatch.setattr(site.ledger, "append", refuse)
        asking = asyncio.create_task(ask())
        await asyncio.to_thread(writes.wait, 30)
        if leaves:
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
        go.set()
        await site.record.replaced.wait()
        for _ in range(5):
            await asyncio.sleep(0.01)
        gc.collect()
        assert leaves == asking.cancelled()

    on_site(tmp_path, body)
    assert forgotten == []
    assert len(told) == (not leaves), "who still waits is told"
