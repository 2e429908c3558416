"""Some seconds of what ``make soak`` does for longer: programs that do what programs do have not drifted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.benign import begin, benign, inspect_for, said

pytestmark = [pytest.mark.real, pytest.mark.anyio]

SECONDS = 8.0


@pytest.mark.usefixtures("_seed")
async def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    with benign(tmp_path) as ground:
        try:
            assert await inspect_for(ground, await begin(ground), SECONDS, 0.25) > 5
            assert said(ground) > 20
        finally:
            await ground.engine.close()
