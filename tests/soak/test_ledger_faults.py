"""SIGKILL, EIO and ENOSPC at every system call of opening the record and of recording steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.test_ledger_faults import all_points, base, go_through

__all__ = ["base"]

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]

LEAST = 1_000
AT_ONCE = 100


def test_no_fault_at_any_system_call_loses_what_was_acknowledged(base: Path, tmp_path: Path) -> None:
    every = all_points(base, tmp_path / "baseline")
    assert len(every) >= LEAST
    for start in range(0, len(every), AT_ONCE):
        chosen = every[start : start + AT_ONCE]
        ended = go_through(base, tmp_path, chosen)
        print(f"\n  {start + len(chosen)} of {len(every)} faults", dict(ended), end="", flush=True)
    print(f"\n  {len(every)} faults: nothing corrupt, nothing acknowledged and lost")
