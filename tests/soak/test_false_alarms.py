"""No false alarm in an hour of benign load. ``STELAE_BENIGN_MINUTES`` says how long; ten minutes without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.real.benign import begin, benign, inspect_for, said

MINUTES = float(os.environ.get("STELAE_BENIGN_MINUTES", "10"))

pytestmark = [pytest.mark.real, pytest.mark.anyio, pytest.mark.timeout(int(MINUTES * 60) + 300)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.usefixtures("_seed")
async def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    with benign(tmp_path) as ground:
        try:
            looks = await inspect_for(ground, await begin(ground), MINUTES * 60, 1.0)
            rate = said(ground) / MINUTES / 60
        finally:
            await ground.engine.close()
    print(f"{looks} inspections of {len(ground.specs)} instances, one with {rate:.0f} MB/s of output: nothing found")
