"""The record as a log, while a controller runs: published beside the loops, receipts of deployments, the check."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from stelae.controller import audit
from stelae.controller.audit import Audit
from stelae.controller.following import Pace
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.event import DeploymentRequested
from stelae.ledger.checkpoint import open_checkpoint
from stelae.ledger.codec import decode
from stelae.ledger.note import parse_vkey
from stelae.ledger.proof import parse_receipt
from stelae.system.installation import Installation
from tests.unit.controller.site import Site, on_site


def installation(tmp_path: Path) -> Installation:
    return Installation(name="stx", state=tmp_path / "s", run=tmp_path / "r")


@contextmanager
def publishing(site: Site, found: Audit) -> Iterator[None]:
    task = asyncio.create_task(found.keep_publishing())
    try:
        yield
    finally:
        task.cancel()


def published(found: Installation, key: str) -> int:
    """The size of the published checkpoint, 0 when there is none."""
    try:
        return open_checkpoint((found.log / "checkpoint").read_bytes(), parse_vkey(key)).size
    except FileNotFoundError:
        return 0


def test_what_is_recorded_is_published_and_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PACE", replace(audit.PACE, rest=0.01))

    async def body(site: Site) -> None:
        where = installation(tmp_path)
        found = Audit(site.record, where)
        key = (await found.log_key())["key"]
        assert stat.S_IMODE((where.keys / "log").stat().st_mode) == 0o600
        with publishing(site, found):
            await site.apply()
            site.loops.start()
            done = await site.deploy(await site.image("one"))
            await site.until(lambda: site.env().rollout is None)
            async with asyncio.timeout(30):
                while published(where, key) < site.record.state.size:
                    await asyncio.sleep(0.01)
        answer = await found.receipt(done["deployment"])
        receipt = parse_receipt(answer["text"].encode())
        event = decode(receipt.index, receipt.leaf).event
        assert isinstance(event, DeploymentRequested)
        assert (event.deployment, event.release.id) == (done["deployment"], done["release"])
        assert receipt.check(parse_vkey(key)).size == answer["size"]
        assert (await found.receipt("0"))["index"] == 0
        for ref, said in (("d-9", "no deployment 'd-9'"), (str(site.ledger.size), "there is no event")):
            with pytest.raises(InvalidInput, match=said):
                await found.receipt(ref)
        # A controller that starts again has the same log.
        again = Audit(site.record, where)
        assert (await again.log_key())["key"] == key
        checked = await again.verify()
        assert (checked["size"], checked["root"]) == (site.ledger.size, site.ledger.root)
        assert checked["published"] == published(where, key)

    on_site(tmp_path, body)


def test_a_receipt_is_of_what_was_recorded_just_now(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        found = Audit(site.record, installation(tmp_path))
        for _ in range(3):
            await site.apply()
            await site.image("one")
            last = site.ledger.size - 1
            assert (await found.receipt(str(last)))["size"] == last + 1

    on_site(tmp_path, body)


def test_a_log_that_cannot_be_published_disturbs_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PACE", Pace(step=0.0, rest=0.01, again=0.01))

    async def body(site: Site) -> None:
        where = installation(tmp_path)
        where.state.mkdir()
        where.log.write_text("in the way")
        found = Audit(site.record, where)
        with capture_logs() as logs, publishing(site, found):
            await site.apply()
            site.loops.start()
            done = await site.deploy(await site.image("one"))
            await site.until(lambda: site.env().rollout is None)
            assert site.env().stable == done["release"]
            with pytest.raises(Failed, match="the log cannot be published"):
                await found.receipt(done["deployment"])
            where.log.unlink()
            async with asyncio.timeout(30):
                while published(where, (await found.log_key())["key"]) < site.record.state.size:
                    await asyncio.sleep(0.01)
        told = [line for line in logs if line["event"] == "log.not_published"]
        assert len(told) == 1, "the same problem is said once"

    on_site(tmp_path, body)


def test_missing_files_are_published_again_and_that_is_said(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        where = installation(tmp_path)
        await site.apply()
        await Audit(site.record, where).receipt("0")
        [bundle] = [path for path in (where.log / "tile" / "entries").rglob("*") if path.is_file()]
        bundle.unlink()
        with capture_logs() as logs, publishing(site, Audit(site.record, where)):
            async with asyncio.timeout(30):
                while not logs:
                    await asyncio.sleep(0.01)
        assert bundle.exists()
        [told] = [line for line in logs if line["event"] == "log.files_were_missing"]
        assert told["first"] == str(bundle.relative_to(where.log))

    on_site(tmp_path, body)
