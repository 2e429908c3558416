"""What a person sees of the requests that a candidate answered."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stelae.controller import progress, queries
from stelae.controller.sentences import sentence
from stelae.core.evolve import evolve
from stelae.domain import event as ev
from stelae.domain.errors import Unreachable
from stelae.domain.observation import Observation
from stelae.domain.state import DeploymentKind, EnvironmentState
from stelae.domain.strategy import Analysis, Gate, Step, Strategy, StrategyKind
from stelae.domain.traffic import Traffic
from stelae.domain.units import SECOND
from stelae.testing.canary import BEGINNING, begun
from tests.unit.controller.site import TEST, Site, on_site

PASSED = ev.RolloutAdvanced(deployment="d-2", step=1, reason="errors 0.02 % (old 0.03 %), 1,204 requests")


def test_who_watches_sees_on_what_evidence_a_step_passed() -> None:
    env = evolve(begun((5, 25), 60, Analysis()), PASSED, BEGINNING)
    assert env.rollout is not None
    assert progress.line(env, env.rollout) == (
        "canary 25 % step 2 of 3; step 1 passed with errors 0.02 % (old 0.03 %), 1,204 requests"
    )
    assert sentence(PASSED) == "d-2: step 2: errors 0.02 % (old 0.03 %), 1,204 requests"


class Platform:
    """Sees these counts, raises what it is given, or never answers."""

    def __init__(self, answer: dict[Any, Traffic] | Exception | None) -> None:
        self.answer = answer

    async def observe(self, env: EnvironmentState) -> Observation:
        if self.answer is None:
            await asyncio.sleep(3600)
        if isinstance(self.answer, Exception):
            raise self.answer
        return Observation(as_of=0, applied=0, traffic=self.answer or {})


async def held(site: Site) -> None:
    """Have a canary under analysis be held."""
    await site.apply()
    await site.stable(await site.image("v1"))
    done = await site.deploy(await site.image("v2"))
    rollout = site.env().rollout
    assert rollout is not None
    assert rollout.stable is not None
    step = Step(weight=2_000, gate=Gate(soak=60 * SECOND))
    strategy = Strategy(kind=StrategyKind.CANARY, analysis=Analysis(), steps=(step,))
    asked = ev.DeploymentRequested(
        deployment=done["deployment"], deployment_kind=DeploymentKind.DEPLOY, strategy=strategy,
        release=site.env().releases[rollout.candidate],
    )  # fmt: skip
    traffic = {rollout.candidate: Traffic(), rollout.stable: Traffic()}
    await site.record.append([asked], actor="ana", environment=TEST)
    await site.record.append(
        [ev.StepHeld(deployment=done["deployment"], step=0, traffic=traffic)], environment=TEST
    )  # fmt: skip


def test_a_status_says_what_the_requests_say_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "LONGEST_LOOK", 0.05)

    async def body(site: Site) -> None:
        async def detail() -> str:
            [row] = (await site.queries.status(TEST))["environments"]
            return str(row["detail"])

        await held(site)
        rollout = site.env().rollout
        assert rollout is not None
        assert rollout.stable is not None
        counts = {rollout.candidate: Traffic(requests=1_000, errors=2), rollout.stable: Traffic(requests=9_000)}
        for answer in (None, Unreachable("no"), {}, {rollout.candidate: Traffic()}):
            site.queries._platform = Platform(answer)  # type: ignore[assignment]  # it answers what is asked here, and no more
            assert "errors" not in await detail()
        site.queries._platform = Platform(counts)  # type: ignore[assignment]  # it answers what is asked here, and no more
        assert (await detail()).endswith(", errors 0.20 % (old 0 %), 1,000 requests")

    on_site(tmp_path, body)
