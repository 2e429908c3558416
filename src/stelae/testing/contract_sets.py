"""The contract of a platform that keeps sets of instances, as tests: what the controller relies on.

Make a class of your tests from ``SetsContract`` and give it ``run``; pytest finds the rest. The tests of runs and of
debug sessions are those of ``stelae.testing.contract``. Nothing here needs pytest.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, cast

from stelae.domain.allocation import InstanceId
from stelae.domain.errors import Conflict, Failed, Unreachable
from stelae.domain.observation import Observation, Phase
from stelae.platforms.port import Capability
from stelae.testing.contract_debug import DebugContract
from stelae.testing.contract_jobs import RunsContract
from stelae.testing.contract_secrets import VALUES, VERSION
from stelae.testing.hand_sets import SetHand, ready, running
from stelae.testing.set_subject import Body, SetSubject

if TYPE_CHECKING:
    from stelae.testing.contract import Subject

CALM = 0.3
"""Seconds in which what should not happen would."""

SOON = 5.0
"""Seconds after which it is known that a platform is silent."""


class Sets(ABC):
    """The tests of sets. A subclass gives ``run``: make a subject, await the body on it, take everything away."""

    @abstractmethod
    def run_sets(self, body: Body) -> None:
        """Run *body* on a new subject, and take everything away."""

    def test_a_set_gets_ready_and_is_all_that_is_there(self) -> None:
        """Ensure and observe; each instance says of which release and process it is, and nothing has traffic."""

        async def body(subject: SetSubject) -> None:
            hand = subject.hand()
            assert not (await hand.look()).instances, "something is there before the first set"
            await hand.ensure(subject.serving, 2)
            names = await hand.until_ready(subject.serving, 2)
            seen = await hand.look()
            assert set(seen.instances) == names, "there is something else than the set"
            for one in seen.instances.values():
                assert (one.release, one.process) == (subject.serving.id, "web"), f"{one.id} is told as {one}"
                assert one.node, f"nobody knows where {one.id} runs"
            assert dict(seen.sets) == {(subject.serving.id, "web"): 2}, f"the sets are told as {seen.sets}"
            assert seen.applied == hand.env.applied, "the observation does not tell the last act"
            assert not seen.table, "it has traffic that nobody gave it"
            assert seen.weights is None, "its traffic is told to be set"

        self.run_sets(body)

    def test_an_act_that_is_repeated_by_its_number_changes_nothing_more(self) -> None:
        """Idempotence: one after the other, and all at once."""

        async def body(subject: SetSubject) -> None:
            hand = subject.hand()
            action = await hand.ensure(subject.serving, 2)
            await asyncio.gather(*(hand.repeat(action) for _ in range(3)))
            names = await hand.until_ready(subject.serving, 2)
            share = await hand.share({subject.serving.id: 1})
            await hand.until_routed(names)
            for act in (action, share, action):
                await hand.repeat(act)
            await asyncio.sleep(CALM)
            seen = await hand.look()
            assert running(seen, subject.serving) == names, "an act that was repeated made other instances"
            assert set(seen.table) == names, "an act that was repeated changed the traffic"
            for act in (await hand.ensure(subject.serving, 0), await hand.drop(subject.serving)):
                await hand.repeat(act)

        self.run_sets(body)

    def test_what_does_not_answer_is_not_ready_and_gets_no_traffic(self) -> None:
        """Unknown is not healthy: an instance is ready when it says so, and not because it runs."""

        async def body(subject: SetSubject) -> None:
            hand = subject.hand()
            await hand.ensure(subject.hanging, 1)
            await hand.share({subject.hanging.id: 1})
            name = await _only(hand)
            await hand.until_said(name, "begins")
            for _ in range(10):
                seen = await hand.look()
                assert seen.instances[name].phase is Phase.STARTING, f"it is {seen.instances[name].phase}"
                assert not seen.table, "what never was ready gets requests"
                await asyncio.sleep(0.05)
            assert seen.instances[name].problem, "nothing says why it is not ready"

        self.run_sets(body)

    def test_a_restart_in_place_is_an_exit_and_another_instance(self) -> None:
        """What ended is told with its exit status and last lines, and what comes after it has another name."""

        async def body(subject: SetSubject) -> None:
            hand = subject.hand()
            await hand.ensure(subject.exiting, 1)
            ended: dict[InstanceId, object] = {}

            def two(seen: Observation) -> bool:
                ended.update({one.id: one.exit for one in seen.instances.values() if one.phase is Phase.EXITED})
                return len(ended) > 1

            await hand.until_seen(two, "it has ended twice")
            for exit_ in ended.values():
                assert getattr(exit_, "code", None) == 3, f"it ended with status 3, and is told as {exit_}"
            await hand.ensure(subject.exiting, 0)
            await hand.until_gone(*ended)

        self.run_sets(body)

    def test_more_and_fewer_touch_no_other_instance(self) -> None:
        """Growing keeps what is there; shrinking takes the victims, which are told to end, and leave nothing."""

        async def body(subject: SetSubject) -> None:
            hand = subject.hand()
            await hand.ensure(subject.serving, 1)
            first = await hand.until_ready(subject.serving, 1)
            await hand.ensure(subject.serving, 3)
            names = await hand.until_ready(subject.serving, 3)
            assert first < names, "what was there before went when more were asked for"
            await hand.share({subject.serving.id: 1})
            await hand.until_routed(names)
            victims = tuple(sorted(first))
            await hand.ensure(subject.serving, 2, victims)

            def gone(seen: Observation) -> bool:
                left = seen.instances.get(victims[0])
                assert left is None or left.ending or victims[0] in running(seen, subject.serving)
                assert names - first <= running(seen, subject.serving), "another one than the victim went"
                return left is None

            await hand.until_seen(gone, "the victim is gone")
            await hand.until_routed(names - first)
            assert victims[0] not in hand.env.instances, "it is in the record for ever"

        self.run_sets(body)

    def test_what_is_to_end_gets_no_traffic(self) -> None:
        """It leaves the traffic when it is told to end, though it is ready still."""

        async def body(subject: SetSubject) -> None:
            hand = subject.hand()
            await hand.ensure(subject.serving, 2)
            names = await hand.until_ready(subject.serving, 2)
            await hand.share({subject.serving.id: 1})
            await hand.until_routed(names)
            await hand.ensure(subject.serving, 1)
            time = asyncio.get_running_loop().time
            since: dict[InstanceId, float] = {}

            def gone(seen: Observation) -> bool:
                for one in seen.instances.values():
                    late = time() - since.setdefault(one.id, time()) if one.ending else 0.0
                    assert late < CALM or one.id not in seen.table, "it was told to end, and gets requests"
                return len(seen.instances) == 1 and set(seen.table) == ready(seen, subject.serving)

            await hand.until_seen(gone, "only the one that stays is left, and gets requests")

        self.run_sets(body)

    def test_what_is_taken_away_leaves_nothing(self) -> None:
        """Exact inventory; taking away what never was there is fine."""

        async def body(subject: SetSubject) -> None:
            hand = subject.hand()
            await hand.drop(subject.rival)
            for release in (subject.serving, subject.rival):
                await hand.ensure(release, 1)
            for release in (subject.serving, subject.rival):
                await hand.until_ready(release, 1)
            await hand.share({subject.serving.id: 1})
            assert await subject.left(), "the tests' own inventory sees nothing of a set"
            for release in (subject.rival, subject.serving):
                await hand.ensure(release, 0)
                await hand.until_ready(release, 0)
            await hand.until_seen(lambda seen: not seen.instances, "no instance is left")
            await hand.drop(subject.rival)
            assert dict((await hand.look()).sets) == {(subject.serving.id, "web"): 0}, "an empty set is a set"
            await hand.drop(subject.serving)
            await hand.share_nothing()
            seen = await hand.look()
            assert not seen.sets, f"there are still sets: {seen.sets}"
            assert not seen.table, "something gets requests"
            await _until_nothing(subject)

        self.run_sets(body)

    def test_requests_go_to_the_releases_that_they_were_given(self) -> None:
        """One, the other, both, none; and what was set is told."""

        async def body(subject: SetSubject) -> None:
            hand = subject.hand()
            names = {}
            for release in (subject.serving, subject.rival):
                await hand.ensure(release, 2)
            for release in (subject.serving, subject.rival):
                names[release.id] = await hand.until_ready(release, 2)
            both = {subject.serving.id: 1, subject.rival.id: 1}
            for weights in ({subject.serving.id: 1}, {subject.rival.id: 1}, both, {}, {subject.serving.id: 1}):
                await hand.share(weights)
                seen = await hand.until_routed(frozenset().union(*(names[release] for release in weights)))
                assert seen.weights == weights, f"{weights} was set, and is told as {seen.weights}"
                assert len(set(seen.table.values())) <= 1, f"equal shares are told as {seen.table}"

        self.run_sets(body)

    def test_weights_are_exact_where_the_platform_says_so(self) -> None:
        """Each release's part of the requests, whatever the number of its instances is."""

        async def body(subject: SetSubject) -> None:
            hand = subject.hand()
            if Capability.EXACT_WEIGHTS not in hand.capabilities:
                assert Capability.RATIO in hand.capabilities, "nobody knows what a canary gets"
                return
            await hand.ensure(subject.serving, 2)
            await hand.ensure(subject.rival, 1)
            old, new = await hand.until_ready(subject.serving, 2), await hand.until_ready(subject.rival, 1)
            for part in (1, 5, 50, 95):
                weights = {subject.serving.id: 100 - part, subject.rival.id: part}
                await hand.share(weights)
                seen = await hand.until_seen(
                    lambda seen: seen.complete and set(seen.table) == old | new, "both get requests"
                )
                got = sum(seen.table[name] for name in new) / sum(seen.table.values())
                assert abs(got - part / 100) < 0.01, f"{part} % was set, {got:.3f} is told"
                assert seen.weights == weights, f"{weights} was set, and is told as {seen.weights}"

        self.run_sets(body)

    def test_what_cannot_be_asked_is_not_told_as_known(self) -> None:
        """Unknown is not healthy: no answer is an error or an incomplete observation, never an empty cluster."""

        async def body(subject: SetSubject) -> None:
            hand = subject.hand()
            await hand.ensure(subject.serving, 1)
            names = await hand.until_ready(subject.serving, 1)
            await hand.share({subject.serving.id: 1})
            await hand.until_routed(names)
            async with subject.silence():
                await _until_unknown(hand)
                assert not await _is_known(hand), "what does not answer is known again"
            seen = await _until_answered(hand)
            assert running(seen, subject.serving) == names, "after the silence there is something else"
            assert set(seen.table) == names, "after the silence the traffic is elsewhere"
            assert dict(seen.weights or {}) == {subject.serving.id: 1}, "after the silence the traffic is not known"

        self.run_sets(body)

    def test_the_next_controller_sees_the_same_and_the_one_before_does_nothing_more(self) -> None:
        """Adoption: nothing is only in the memory of a process."""

        async def body(subject: SetSubject) -> None:
            hand = subject.hand()
            await hand.ensure(subject.serving, 2)
            names = await hand.until_ready(subject.serving, 2)
            await hand.share({subject.serving.id: 1})
            before = await hand.until_routed(names)
            later = hand.moved_to(await subject.another())
            seen = await later.until_complete()
            assert running(seen, subject.serving) == names, "the next controller sees other instances"
            told = (dict(seen.sets), dict(seen.table), seen.weights)
            assert told == (dict(before.sets), dict(before.table), before.weights), f"it sees {told}"
            try:
                await hand.ensure(subject.serving, 0)
            except Conflict:
                pass
            else:
                raise AssertionError("a controller that was replaced has acted")
            await asyncio.sleep(CALM)
            assert running(await later.look(), subject.serving) == names, "what was replaced has ended something"
            await later.ensure(subject.serving, 1)
            await later.until_ready(subject.serving, 1)

        self.run_sets(body)

    def test_instances_read_their_secrets_byte_for_byte(self) -> None:
        """As files, whatever is in them; and as environment variables where that was asked for."""

        async def body(subject: SetSubject) -> None:
            hand = subject.hand()
            if Capability.SECRETS not in hand.capabilities:
                return
            assert subject.telling is not None, "a platform with secrets needs a release that tells of them"
            await hand.ensure(subject.telling, 1)
            name = await _only(hand)
            wanted = {f"{name} {len(value)} {sha256(value).hexdigest()}" for name, value in VALUES.items()}
            wanted.add(f"TEXT={sha256(VALUES['TEXT']).hexdigest()}")
            for line in wanted:
                await hand.until_said(name, line)
            said = [line.text for line in await hand.output(name)]
            assert set(said) == {"begins", *wanted}, f"it has other secrets than its release: {said}"

        self.run_sets(body)

    def test_a_set_whose_secret_cannot_be_read_is_not_made(self) -> None:
        """The act fails and says which one; nothing is left of it."""

        async def body(subject: SetSubject) -> None:
            if Capability.SECRETS not in subject.platform.on(subject.choice).capabilities:
                return
            assert subject.telling is not None
            lost = replace(subject.telling, secrets={**subject.telling.secrets, "TEXT": VERSION + 1})
            problem = ""
            try:
                await subject.hand(lost).ensure(lost, 1)
            except Failed as error:
                problem = str(error)
            assert "secret TEXT version 8 cannot be read" in problem, f"the act was told as {problem!r}"
            assert not await subject.left(), "something is left of it"

        self.run_sets(body)


class SetsContract(Sets, RunsContract, DebugContract):
    """All of the tests."""

    def run(self, body: Callable[[Subject], Awaitable[None]]) -> None:
        """Run a test of runs or of debug sessions: a subject has all that those need of one."""
        self.run_sets(cast(Body, body))


async def _only(hand: SetHand) -> InstanceId:
    """Return the one instance that is seen, once it is recorded."""
    await hand.until_seen(lambda _: bool(hand.env.instances), "it is seen")
    (name,) = hand.env.instances
    return name


async def _until_nothing(subject: SetSubject) -> None:
    """What belonged to something that was taken away goes a moment after it."""
    for _ in range(200):
        left = await subject.left()
        if not left:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"something is left: {left}")


async def _until_unknown(hand: SetHand) -> None:
    """A connection that broke may be made again at once, and then nothing was missed; but not for long."""
    loop = asyncio.get_running_loop()
    until = loop.time() + SOON
    while await _is_known(hand):
        assert loop.time() < until, f"{SOON:g} s after it was silent a platform gave a complete observation"
        await asyncio.sleep(0.1)


async def _is_known(hand: SetHand) -> bool:
    try:
        return (await hand.look()).complete
    except Unreachable:
        return False


async def _until_answered(hand: SetHand) -> Observation:
    for _ in range(200):
        try:
            return await hand.until_complete()
        except Unreachable:
            await asyncio.sleep(0.05)
    raise AssertionError("it does not answer again")
