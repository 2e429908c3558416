"""Random lives of an installation: the real controller and the real ledger, on a simulated machine.

``STELAE_SEEDS=20000`` lives more of them.
"""

from __future__ import annotations

import os

import pytest

from stelae.core import converge
from stelae.testing.faults import ActFault, LookFault, Point
from stelae.testing.life import draw
from stelae.testing.replay import COMMAND, live_many, main, told
from stelae.testing.simulation import live

SEEDS = int(os.environ.get("STELAE_SEEDS", "1500"))

FAULTS = {
    *ActFault, *LookFault, *Point, "instance death", "power-off", "clock jump", "slow disk", "fenced",
    "outdated request", "slow start", "never ready", "flapping health", "gets unready", "exit by itself",
    "ignores SIGTERM", "long connections", "job succeeds", "job fails", "job hangs", "counts lost", "debug session",
    "instance drift", "environment differs", "other packages",
}  # fmt: skip


@pytest.mark.timeout(max(300, SEEDS))
def test_random_lives_break_no_law_and_every_fault_happens(capsys: pytest.CaptureFixture[str]) -> None:
    tally, failed = live_many(0, SEEDS)
    assert not failed, f"{COMMAND} {failed}\n{told(failed)[1]}"
    rare = {fault: share for fault in FAULTS if (share := tally.share(fault)) < 0.05}
    assert not rare, f"too rare to prove anything: {rare}\n{tally}"
    with capsys.disabled():
        print(f"\n{tally}")


@pytest.mark.parametrize("seed", ["1", "5", "9"])
def test_the_same_seed_is_the_same_life(seed: str) -> None:
    first, second = live(draw(seed)), live(draw(seed))
    assert first.root == second.root
    assert first.story == second.story


def test_a_failing_seed_is_cut_down_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(converge, "_ready", lambda *_: True)
    assert main(["--seed", "3"]) == 1
    told_ = capsys.readouterr().out
    assert "BROKEN law 6: traffic for" in told_
    assert f"{COMMAND} 3" in told_
    steps = [line for line in told_.splitlines() if "»" in line]
    assert len(steps) < len(draw("3").steps), "nothing was cut"


def test_a_seed_that_breaks_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "1"]) == 0
    assert "no law was broken" in capsys.readouterr().out
