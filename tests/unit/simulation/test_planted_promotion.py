"""The laws of promotion are not vacuous: each planted bug, as a careless change would make it, is found by lives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stelae.controller import freezes, loop
from stelae.core import disks, promotion, verification
from stelae.domain import event as ev
from stelae.domain.artifact import Disk
from stelae.domain.digest import Digest, digest_of
from stelae.domain.image import Image
from stelae.domain.release import Release
from stelae.domain.units import SECOND
from stelae.testing.disks import Maker, disk_of
from stelae.testing.life import Life, Step
from stelae.testing.replay import live_all
from stelae.testing.simulation import Result, live
from stelae.testing.steps import image
from stelae.testing.things import Behaviour
from tests.unit.simulation.test_planted import SEEDS


def _carried(right: Any) -> Any:
    def wrong(env: Any, rollout: Any, emergency: str) -> Any:
        before = next((item.approved for item in reversed(env.deployments.values()) if item.approved), ())
        return replace(right(env, rollout, emergency), approved=before)

    return wrong


def _for_both(needs: Any, approved: Any) -> int:
    if not needs.groups:
        return min(needs.count, len(approved))
    return sum(any(group in item.groups for item in approved) for group in needs.groups)


PLANTED: dict[str, tuple[Any, str, Any]] = {
    "nobody need approve": (promotion, "have", lambda rollout: rollout.needs.needed),
    "anybody may approve, any number of times": (promotion, "check_person", lambda *_: None),
    "one person counts for two groups": (promotion, "counted", _for_both),
    "an approval goes over to the next deployment": (
        promotion, "asked", _carried(promotion.asked),
    ),
    "a weaker policy counts at once": (promotion, "applied", lambda _, after: after.approval),
    "a freeze does not hold": (promotion, "_frozen", lambda *_: None),
    "nobody looks at the freezes": (freezes, "current", lambda *_: None),
    "who waits, waits for ever": (promotion, "gives_up_at", lambda _: 2**62),
    "what goes wrong is not seen": (verification, "upset", lambda env, *_: env),
    "the time of verification is not kept": (verification, "_long", lambda _: 0),
}  # fmt: skip


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, name, replacement = PLANTED[bug]
    monkeypatch.setattr(target, name, replacement)
    tally, failed = live_all(map(str, range(max(SEEDS, 400))))
    assert failed, f"not found by {tally.seeds} seeds"
    print(f"found by seed {failed}: {bug}")


def _settings(env: str, level: str) -> Step:
    strategy = {"kind": "rolling", "min_healthy": "1s", "progress": "60s", "platform": "20s", "batch": "100%"}
    args = {"env": env, "web": 2, "worker": 0, "strategy": strategy, "bake": "0s", "level": level}
    return Step(what="apply", args={**args, "promote": env == "production"}, wait=0.1)


def _deploy(env: str, wait: float) -> Step:
    return Step(what="deploy", args={"env": env, "image": 0, "strategy": "", "supersede": True}, wait=wait)


AGAIN = Life(
    seed="again", behaviours=(Behaviour(ready_after=2 * SECOND),), environments=("testing", "production"),
    steps=(
        _settings("testing", "info"), _settings("production", "info"), _deploy("testing", 30),
        _settings("testing", "debug"), _deploy("testing", 1),
        Step(what="death", args={"env": "testing", "which": 0, "most": 10}, wait=30), _deploy("production", 10),
    ),
)  # fmt: skip
"""An image that was verified, and that is reverted when it is deployed there again with other settings."""


def test_an_image_that_was_reverted_after_it_was_verified_goes_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    result = live(AGAIN)
    assert result.broken == ""
    ends = [item.event.outcome for item in result.events if isinstance(item.event, ev.RolloutEnded)]
    assert ends == ["succeeded", "reverted"]
    (refused,) = [item.event.reason for item in result.events if isinstance(item.event, ev.RequestRefused)]
    assert "is not verified any more: d-2 of it was reverted" in refused
    monkeypatch.setattr(verification, "_doubt", lambda *_: "")
    assert "does not count as verified in testing" in live(AGAIN).broken


def _waiting(env: str, level: str) -> Step:
    done = _settings(env, level)
    strategy = {**done.args["strategy"], "patience": "10m"}
    return replace(done, args={**done.args, "strategy": strategy, "policy": "approvals = 1"})


WAITED = Life(
    seed="waited", behaviours=AGAIN.behaviours, environments=AGAIN.environments,
    steps=(
        _settings("testing", "info"), _waiting("production", "info"), _deploy("testing", 30),
        _deploy("production", 10), *AGAIN.steps[3:6],
        Step(what="approve", args={"env": "production", "who": "ben"}, wait=30),
    ),
)  # fmt: skip
"""An image that waits to be let in where it is promoted to, and loses its verification meanwhile."""


def test_an_image_that_lost_its_verification_while_it_waited_is_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    result = live(WAITED)
    assert result.broken == ""
    ends = [item.event for item in result.events if isinstance(item.event, ev.RolloutEnded)]
    assert [end.outcome for end in ends] == ["succeeded", "reverted", "cancelled"]
    assert "it may not come in any more: refused by policy: in testing, image " in ends[-1].reason
    monkeypatch.setattr(loop, "lets_in", lambda *_: False)
    assert "does not count as verified in testing" in live(WAITED).broken


def _machines(env: str, machines: bool = True) -> Step:
    done = _settings(env, "info")
    return replace(done, args={**done.args, "machines": machines})


def _promoted(*steps: Step, origin: bool = True) -> Life:
    """A life in which image 0 is verified in testing, with *steps* after that, before it is deployed to machines."""
    return Life(
        seed="disks", behaviours=AGAIN.behaviours, environments=AGAIN.environments,
        steps=(
            _machines("testing", origin), _machines("production"), _deploy("testing", 30), *steps,
            _deploy("production", 30),
        ),
    )  # fmt: skip


OTHER = Step(what="packages", args={"image": 0, "made": True}, wait=1)
"""Another disk of the same image is made, of other packages."""


def _disks(result: Result) -> list[Digest | None]:
    return [item.event.release.disk for item in result.events if isinstance(item.event, ev.DeploymentRequested)]


def test_the_disk_that_was_verified_is_promoted_and_no_other_of_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    result = live(_promoted(OTHER))
    assert result.broken == ""
    first, second = (disk_of(image(0).digest, number).digest for number in (1, 2))
    assert {item.event.disk.digest for item in result.events if isinstance(item.event, ev.DiskBuilt)} == {
        first,
        second,
    }
    assert _disks(result) == [first, first]
    monkeypatch.setattr(disks, "verified", lambda *_: None)
    result = live(_promoted(OTHER))
    assert (result.broken, _disks(result)) == ("", [first]), "the newest one is refused"
    (refused,) = [item.event.reason for item in result.events if isinstance(item.event, ev.RequestRefused)]
    assert "was never verified in testing" in refused
    monkeypatch.setattr(Release, "artifact", property(lambda self: self.image))
    assert "is of a disk that does not count as verified in testing" in live(_promoted(OTHER)).broken


def test_an_image_that_containers_verified_brings_no_disk_in(monkeypatch: pytest.MonkeyPatch) -> None:
    life = _promoted(OTHER, origin=False)
    result = live(life)
    assert (result.broken, _disks(result)) == ("", [None])
    (refused,) = [item.event.reason for item in result.events if isinstance(item.event, ev.RequestRefused)]
    assert "shop/testing runs images, and no disk is verified by that" in refused
    monkeypatch.setattr(Release, "artifact", property(lambda self: self.image))
    assert "is of a disk that does not count as verified in testing" in live(life).broken


def test_a_disk_of_another_image_is_never_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wrong(self: Maker, actor: str, image: Image) -> Disk:
        other = disk_of(digest_of(b"another image"), 1)
        await self.record.append([ev.DiskBuilt(disk=other, commit="c")], actor=actor)
        return other

    life = Life(
        seed="foreign", behaviours=AGAIN.behaviours, environments=("testing",),
        steps=(_machines("testing"), _deploy("testing", 10)),
    )  # fmt: skip
    assert _disks(live(life)) == [disk_of(image(0).digest, 1).digest]
    monkeypatch.setattr(Maker, "ensure", wrong)
    result = live(life)
    assert (result.broken, _disks(result)) == ("", [])
    monkeypatch.setattr(disks, "fits", lambda *_: None)
    assert "is of a disk that was not made of its image" in live(life).broken
