"""What a request comes to, and every reason why it is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.core import request
from stelae.domain.digest import Digest, digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, InvalidInput, Refused
from stelae.domain.image import Image, Source
from stelae.domain.process import Process
from stelae.domain.promotion import Verification, Verifying
from stelae.domain.state import (
    BuiltImage,
    DeploymentKind,
    EnvironmentState,
    InstallationState,
    Phase,
    Rollout,
)
from stelae.domain.strategy import Analysis, Gate, Match, MatchKind, Step, Strategy, StrategyKind
from stelae.domain.trust import Revocation
from stelae.domain.units import MINUTE, SECOND
from tests.unit.core.fixtures import STEPS, WEB, WORKER, admit, environment, release

V1, V2, V3 = release("v1"), release("v2"), release("v3")


def image(app: str = "shop", *processes: Process) -> Image:
    return Image(
        digest=digest_of(b"v1"), app=app, processes=processes or (WEB, WORKER), layers=(), size=1
    )  # fmt: skip


def env(**changes: Any) -> EnvironmentState:
    config = replace(environment("rolling"), settings={"A": "1"}, promote_from=str(changes.pop("promote_from", "")))
    made = EnvironmentState(
        id=EnvironmentId("shop/test"), config=config, wanted=dict(config.processes),
        releases={item.id: item for item in (V1, V2, V3)},
    )  # fmt: skip
    return replace(made, **changes)


def rollout(**changes: Any) -> Rollout:
    made = Rollout(
        deployment="d-6", kind=DeploymentKind.DEPLOY, candidate=V2.id, stable=V1.id, strategy=Strategy(),
        actor="ana", started_at=0,
    )  # fmt: skip
    return replace(made, **changes)


def test_a_release_is_the_image_with_the_settings_of_the_environment() -> None:
    made = request.release_of(env(), image())
    assert (made.app, made.environment, made.image) == ("shop", "test", digest_of(b"v1"))
    assert (dict(made.settings), made.processes) == ({"A": "1"}, (WEB, WORKER))


def test_an_image_that_cannot_run_there() -> None:
    name = digest_of(b"v1")[7:19]
    with pytest.raises(InvalidInput) as caught:
        request.release_of(env(), image("other"))
    assert str(caught.value) == f"image {name} is of the app 'other', not 'shop'"
    with pytest.raises(InvalidInput) as caught:
        request.release_of(env(), image("shop", WEB))
    assert str(caught.value) == f"image {name} has no process 'worker', which shop/test runs"
    assert caught.value.hint == ("take it out of the environment (stelae env apply), or deploy an image that has it")


def state(*, versioned: bool = True, verified: tuple[Digest, ...] = ()) -> InstallationState:
    source = Source(commit="a" * 40, versioned=versioned)
    done = Verification(release=V1.id, deployment="d-1", since=0, at=0)
    staging = EnvironmentState(
        id=EnvironmentId("shop/staging"), verified=frozenset(verified), verifications=dict.fromkeys(verified, done)
    )
    return InstallationState(
        environments={staging.id: staging},
        images={V1.image: BuiltImage(image=image(), sources=(source,), actor="ana", built_at=0)},
    )


def test_policy() -> None:
    name = V1.image[7:19]
    admit(state(), env(), V1, 0)
    admit(state(verified=(V1.image,)), env(promote_from="staging"), V1, 0)
    admit(state(verified=(V2.image,)), env(promote_from="staging"), V2, 0)
    for known in (state(), state(verified=(V2.image,)), InstallationState()):
        with pytest.raises(Refused) as caught:
            admit(known, env(promote_from="staging"), V1, 0)
        assert str(caught.value) == f"refused by policy: image {name} was never verified in staging"
        assert caught.value.hint == f"deploy it there first: stelae deploy staging --image {V1.image}"
    with pytest.raises(Refused) as caught:
        admit(state(versioned=False, verified=(V1.image,)), env(promote_from="staging"), V1, 0)
    assert str(caught.value) == (
        f"image {name} was built from a tree with changes that no commit holds; shop/test takes only commits"
    )
    assert caught.value.hint == "commit, deploy the commit, and promote that image"
    admit(state(versioned=False), env(), V1, 0)


def test_what_is_being_verified_is_told_with_the_time_that_is_left() -> None:
    staging = EnvironmentState(
        id=EnvironmentId("shop/staging"), releases={V1.id: V1}, config=replace(environment(), verify_for=10 * MINUTE),
        verifying=Verifying(release=V1.id, deployment="d-1", since=MINUTE), wanted={"web": 1},
    )  # fmt: skip
    known = replace(state(), environments={staging.id: staging})
    with pytest.raises(Refused, match=r"in staging, image .* is not verified yet: 7 min to go") as caught:
        admit(known, env(promote_from="staging"), V1, 4 * MINUTE)
    assert "see stelae status staging" in caught.value.hint


def test_the_word_of_another_controller_is_enough_and_replaces_nothing_else() -> None:
    there = env(promote_from="staging")
    admit(state(), there, V1, 0, vouched=True)
    with pytest.raises(Refused, match="takes only commits"):
        admit(state(versioned=False), there, V1, 0, vouched=True)
    revoked = {V1.image: Revocation(actor="ana", at=0, reason="broken")}
    with pytest.raises(Refused, match="was revoked by ana"):
        admit(replace(state(), revoked=revoked), there, V1, 0, vouched=True)


def test_an_image_from_a_registry_has_no_source_and_comes_in_when_it_was_verified() -> None:
    known = state(verified=(V1.image,))
    taken = BuiltImage(image=image(), sources=(), actor="ana", built_at=0)
    admit(replace(known, images={V1.image: taken}), env(promote_from="staging"), V1, 0)


def test_what_holds_an_environment() -> None:
    request.free(env())
    with pytest.raises(Conflict) as caught:
        request.free(env(rollout=rollout(step=1)))
    assert str(caught.value) == f"busy: deployment d-6 ({V2.id[:8]}, by ana, rolling step 2) holds shop/test"
    for phase, says in ((Phase.WAITING, "waits to be let in"), (Phase.REVERTING, "going back")):
        with pytest.raises(Conflict, match=rf"by ana, {says}\) holds shop/test$"):
            request.free(env(rollout=rollout(phase=phase)))
    assert caught.value.hint == (
        "watch it: stelae status test --watch · replace it: --supersede · stop it: stelae abort test"
    )


def test_strategies() -> None:
    usual = replace(Strategy(), batch=40, min_healthy=5 * SECOND, progress=MINUTE)
    there = env(config=replace(environment("rolling"), strategy=usual))
    assert request.strategy(there, "") == usual
    for kind in set(StrategyKind) - {StrategyKind.CANARY}:
        assert request.strategy(there, kind.value) == replace(usual, kind=kind)
    with pytest.raises(InvalidInput, match="shop/test has no steps of a canary"):
        request.strategy(there, "canary")
    with pytest.raises(InvalidInput) as caught:
        request.strategy(there, "sideways")
    assert (str(caught.value), caught.value.hint) == (
        "no strategy 'sideways'", "one of recreate, rolling, blue-green, canary"
    )  # fmt: skip
    assert request.quick(there) == replace(usual, kind=StrategyKind.BLUE_GREEN, min_healthy=0)
    alone = env(config=replace(environment("recreate"), strategy=replace(usual, kind=StrategyKind.RECREATE)))
    assert request.quick(alone) == replace(usual, kind=StrategyKind.RECREATE, min_healthy=0)


def test_what_people_decide_by_goes_with_the_kind_that_has_it() -> None:
    gate = Gate(soak=MINUTE, manual=True)
    canary = Strategy(
        kind=StrategyKind.CANARY, gate=gate, steps=STEPS, preview="x", sticky=True, analysis=Analysis(),
        matches=(Match(kind=MatchKind.COOKIE, name="beta"),),
    )  # fmt: skip
    there = env(config=replace(environment("rolling"), strategy=canary))
    assert request.strategy(there, "canary") == canary
    assert request.strategy(there, "rolling") == Strategy(gate=gate, analysis=Analysis())
    assert request.strategy(there, "recreate") == Strategy(
        kind=StrategyKind.RECREATE, gate=Gate(soak=MINUTE), analysis=Analysis()
    )
    assert request.quick(there) == Strategy(kind=StrategyKind.BLUE_GREEN, min_healthy=0), "nobody is asked"


def test_a_strategy_that_the_image_does_not_fit_is_refused() -> None:
    canary = Strategy(kind=StrategyKind.CANARY, steps=STEPS)
    request.fits(canary, V2)
    alone = release("v9", WORKER)
    for strategy in (canary, Strategy(preview="x"), Strategy(analysis=Analysis())):
        with pytest.raises(InvalidInput, match="has no process that takes requests"):
            request.fits(strategy, alone)
    request.fits(Strategy(), alone)
    for strategy in (
        Strategy(gate=Gate(job="smoke")),
        replace(canary, steps=(Step(weight=500, gate=Gate(job="smoke")),)),
    ):
        with pytest.raises(InvalidInput, match="has no job 'smoke', for which a step of the strategy waits"):
            request.fits(strategy, V2)


def test_the_release_to_go_back_to() -> None:
    stables = (V1.id, V2.id, V3.id)
    assert request.last_good(env(stable=V3.id, stables=stables)) == V2
    assert request.last_good(env(stable=V3.id, stables=(V1.id, V2.id))) == V2
    assert request.last_good(env(stable=V1.id, stables=stables, rollout=rollout())) == V1
    assert request.last_good(env(stables=(V1.id,), rollout=rollout())) == V1, "nothing is stable now"
    for there in (env(), env(stable=V1.id, stables=(V1.id,)), env(rollout=rollout())):
        with pytest.raises(InvalidInput) as caught:
            request.last_good(there)
        assert str(caught.value) == "shop/test has no earlier release to go back to"
        assert caught.value.hint == "stelae history shows what ran"
