"""The contract of a platform, as tests: what the controller relies on, whatever holds the instances.

Make a class of your tests from ``PlatformContract`` and give it ``run``; pytest finds the rest. The page
``docs/testing-a-platform.md`` shows it. Nothing here needs pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

from stelae.domain.action import Action, Verb
from stelae.domain.allocation import Allocation, Holding, InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Unreachable
from stelae.domain.observation import Exit, Phase, Seen
from stelae.domain.release import Release
from stelae.platforms.port import Capability, Platform
from stelae.testing.contract_debug import DebugContract
from stelae.testing.contract_drift import DriftContract
from stelae.testing.contract_jobs import RunsContract
from stelae.testing.contract_secrets import SecretsContract
from stelae.testing.contract_traffic import TrafficContract
from stelae.testing.hand import Hand
from stelae.testing.requests import Asked, Told

FIRST, SECOND = InstanceId("web-first-1"), InstanceId("web-second-2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A platform under test, with nothing on it, and what the maker of the tests gives beside it.

    The releases are of one app and environment, differ in their ids, and have one process, ``web``, with a port. Each
    writes the line ``begins`` first. ``serving`` gets ready, and ends when it is asked to; ``hanging`` never gets
    ready and does not end when it is asked to; ``exiting`` ends with status 3 at once.

    ``another`` gives the platform as the next controller has it. ``request`` has a request to the environment's host
    open for about 2 s from when it is entered. ``silence`` has the platform, or a part of it, not answer while it is
    entered. ``left`` says what there is of any instance on the machine, a phrase each.

    A platform with ``Capability.ROUTES`` or ``Capability.TRAFFIC_COUNTS`` has ``rival``, a release that serves like
    ``serving`` does, and ``ask``, which sends one request through the router and says what came back.

    A platform with ``Capability.TERMINALS`` has ``talking``, whose program reads lines: it ends with status N on the
    line ``exit N``, with 0 at the end of its input, and writes ``got LINE`` for every other one.

    ``tamper`` makes a running instance something else than what it was launched as, where the maker of the tests can.

    ``patience`` is how many times as long everything may take, on a machine that is emulated: each time limit of the
    suite is multiplied by it, and ``request`` is open for so many times 2 s.

    A platform with ``Capability.SECRETS`` is given ``stelae.testing.contract_secrets.Given``, and ``telling`` has its
    ``VALUES``: the instance writes for each file below ``/run/secrets`` the line ``NAME SIZE SHA256``, and the line
    ``TEXT=SHA256`` of the environment variable.
    """

    platform: Platform
    serving: Release
    hanging: Release
    exiting: Release
    another: Callable[[], Awaitable[Platform]]
    request: Callable[[], AbstractAsyncContextManager[None]]
    silence: Callable[[], AbstractAsyncContextManager[None]]
    left: Callable[[], Awaitable[list[str]]]
    telling: Release | None = None
    rival: Release | None = None
    talking: Release | None = None
    ask: Callable[[Asked], Awaitable[Told]] | None = None
    tamper: Callable[[InstanceId], Awaitable[None]] | None = None
    patience: float = 1.0

    def hand(self, *more: Release) -> Hand:
        """Return a hand that moves the platform; it knows *more* releases too."""
        name = EnvironmentId(f"{self.serving.app}/{self.serving.environment}")
        told = tuple(release for release in (self.telling, self.rival, self.talking) if release is not None)
        releases = (self.serving, self.hanging, self.exiting, *told, *more)
        return Hand(self.platform, name, releases, patience=self.patience)


Body = Callable[[Subject], Awaitable[None]]
"""What a test does with a subject."""


class PlatformContract(RunsContract, DebugContract, SecretsContract, TrafficContract, DriftContract):
    """The tests. A subclass gives ``run``: make a subject, await the body on it, take everything away."""

    def test_what_is_launched_gets_ready_and_is_all_that_is_there(self) -> None:
        """Launch and observe; the number of the last act comes back."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            assert not (await hand.look()).instances, "something is there before the first launch"
            await hand.launch(FIRST, subject.serving)
            await hand.until(FIRST, Phase.READY)
            seen = await hand.look()
            assert set(seen.instances) == {FIRST}, "there is something else than what was launched"
            assert seen.applied == hand.env.applied, "the observation does not tell the last act"
            assert not seen.table, "it has traffic that nobody gave it"

        self.run(body)

    def test_an_act_that_is_repeated_by_its_number_changes_nothing_more(self) -> None:
        """Idempotence of every verb: one after the other, and all at once."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            action = await hand.launch(FIRST, subject.serving)
            await asyncio.gather(*(subject.platform.apply(action, hand.env) for _ in range(3)))
            await hand.until(FIRST, Phase.READY)
            await hand.until_said(FIRST, "begins")
            lines = [line.text for line in await hand.output(FIRST)]
            assert lines.count("begins") == 1, f"it was started more than once: {lines}"
            for verb in (Verb.ROUTE, Verb.ROUTE, Verb.STOP, Verb.KILL, Verb.REMOVE):
                table = {FIRST: 256} if verb is Verb.ROUTE and not hand.env.table else {}
                action = await hand.act(verb, FIRST, table=table)
                await subject.platform.apply(action, hand.env)
                if verb is Verb.ROUTE:
                    assert dict((await hand.look()).table) == table, "a table that was set twice is another"
            assert FIRST not in (await hand.look()).instances, "what was removed twice is there again"

        self.run(body)

    def test_what_does_not_answer_is_not_ready(self) -> None:
        """Unknown is not healthy: an instance is ready when it says so, and not because it runs."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            await hand.launch(FIRST, subject.hanging)
            await hand.until_said(FIRST, "begins")
            for _ in range(10):
                view = (await hand.look()).instances[FIRST]
                assert view.phase is Phase.STARTING, f"it never answered, and is {view.phase}"
                await asyncio.sleep(0.05)
            assert view.problem, "nothing says why it is not ready"

        self.run(body)

    def test_how_an_instance_ended_is_told_and_it_is_not_started_again(self) -> None:
        """Exits; a restart in place would be a change of an instance."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            action = await hand.launch(FIRST, subject.exiting)
            found = _exit(await hand.until(FIRST, Phase.EXITED))
            assert found.code == 3, f"its exit status is told as {found.code}"
            await asyncio.sleep(0.1)  # a second end would be at another time
            await subject.platform.apply(action, hand.env)
            assert _exit(await hand.until(FIRST, Phase.EXITED)) == found, "what had ended was started again"
            lines = [line.text for line in await hand.output(FIRST)]
            assert lines.count("begins") == 1, f"what had ended was started again: {lines}"
            await hand.act(Verb.REMOVE, FIRST)

        self.run(body)

    def test_an_instance_is_asked_to_end_and_ended_when_it_does_not(self) -> None:
        """Stop and kill."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            await hand.launch(FIRST, subject.serving)
            await hand.launch(SECOND, subject.hanging)
            await hand.until(FIRST, Phase.READY)
            await hand.until_said(SECOND, "begins")
            for name in (FIRST, SECOND):
                await hand.act(Verb.STOP, name)
            await hand.until(FIRST, Phase.EXITED)
            assert (await hand.look()).instances[SECOND].phase is not Phase.EXITED, "a stop ended it by force"
            await hand.act(Verb.KILL, SECOND)
            assert _exit(await hand.until(SECOND, Phase.EXITED)).code == 137, "killed, and it is not told so"

        self.run(body)

    def test_what_is_removed_leaves_nothing(self) -> None:
        """Exact inventory; removing what was never launched is fine."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            await hand.act(Verb.REMOVE, SECOND)
            await hand.launch(FIRST, subject.serving)
            await hand.until(FIRST, Phase.READY)
            assert await subject.left(), "the tests' own inventory sees nothing of an instance that runs"
            for verb in (Verb.KILL, Verb.REMOVE):
                await hand.act(verb, FIRST)
            assert not (await hand.look()).instances, "it is still seen"
            assert await subject.left() == [], "something is left of it"

        self.run(body)

    def test_the_traffic_table_is_exactly_what_was_set(self) -> None:
        """Weights; a table replaces the one before as a whole."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            for name in (FIRST, SECOND):
                await hand.launch(name, subject.serving)
            for name in (FIRST, SECOND):
                await hand.until(name, Phase.READY)
            for table in ({FIRST: 256}, {FIRST: 256, SECOND: 64}, {SECOND: 256}, {}):
                await hand.act(Verb.ROUTE, table=table)
                assert dict((await hand.look()).table) == table, f"{table} was set, and another one is there"

        self.run(body)

    def test_it_can_do_what_it_says(self) -> None:
        """Capabilities are told truthfully: the controller plans with them."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            can = hand.capabilities
            assert all(isinstance(item, Capability) for item in can), "a capability that nobody knows"
            for name in (FIRST, SECOND):
                await hand.launch(name, subject.serving)
            for name in (FIRST, SECOND):
                await hand.until(name, Phase.READY)
            if Capability.OWN_INSTANCE_IDS in can:
                there = set((await hand.look()).instances)
                assert there == {FIRST, SECOND}, f"{FIRST} and {SECOND} were launched, {there} are seen"
            if Capability.EXACT_WEIGHTS in can:
                for shares in ((256, 1), (3, 256), (100, 200)):
                    await hand.act(Verb.ROUTE, table=dict(zip((FIRST, SECOND), shares, strict=True)))
                    table = (await hand.look()).table
                    assert (table[FIRST], table[SECOND]) == shares, f"shares of {shares} were set, {table} is there"

        self.run(body)

    def test_an_instance_that_has_ended_gets_no_traffic(self) -> None:
        """It may end between the look and the act."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            await hand.launch(FIRST, subject.serving)
            await hand.launch(SECOND, subject.exiting)
            await hand.until(FIRST, Phase.READY)
            await hand.until(SECOND, Phase.EXITED)
            await hand.act(Verb.ROUTE, table={FIRST: 256, SECOND: 256})
            assert set((await hand.look()).table) == {FIRST}, "what has ended gets traffic"

        self.run(body)

    def test_open_requests_are_counted_until_they_end(self) -> None:
        """Drain: an instance without traffic still finishes what is open to it."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            await hand.launch(FIRST, subject.serving)
            await hand.until(FIRST, Phase.READY)
            await hand.act(Verb.ROUTE, table={FIRST: 256})
            async with subject.request():
                await hand.act(Verb.ROUTE, table={})
                seen = await hand.look()
                assert not seen.table, "it has traffic after it was taken out"
                assert seen.instances[FIRST].connections > 0, "the open request is not counted"
            await hand.until_drained(FIRST)

        self.run(body)

    def test_what_cannot_be_asked_is_not_told_as_known(self) -> None:
        """Unknown is not healthy: no answer is an error or an incomplete observation, never an empty machine."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            await hand.launch(FIRST, subject.serving)
            await hand.until(FIRST, Phase.READY)
            await hand.act(Verb.ROUTE, table={FIRST: 256})
            async with subject.silence():
                try:
                    known = (await hand.look()).complete
                except Unreachable:
                    known = False
                assert not known, "a platform that does not answer gave a complete observation"
            await hand.until(FIRST, Phase.READY)
            seen = await hand.look()
            assert dict(seen.table) == {FIRST: 256}, "after the silence the traffic is elsewhere"

        self.run(body)

    def test_the_next_controller_sees_what_the_last_one_left(self) -> None:
        """A restart: instances, traffic and exits are adopted, and nothing is taken for unready meanwhile."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            for name in (FIRST, SECOND):
                await hand.launch(name, subject.serving)
            for name in (FIRST, SECOND):
                await hand.until(name, Phase.READY)
            await hand.act(Verb.ROUTE, table={FIRST: 256})
            await subject.platform.close()
            later = hand.moved_to(await subject.another())
            seen = await later.until_complete()
            assert dict(seen.table) == {FIRST: 256}, "the traffic is another after a restart of the controller"
            phases = {name: view.phase for name, view in seen.instances.items()}
            assert phases == {FIRST: Phase.READY, SECOND: Phase.READY}, f"after a restart: {phases}"
            await later.act(Verb.KILL, SECOND)
            await later.until(SECOND, Phase.EXITED)

        self.run(body)

    def test_a_controller_that_was_replaced_cannot_act(self) -> None:
        """The fence: from the next controller on, every act of the one before is refused, and changes nothing."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            launch = await hand.launch(FIRST, subject.serving)
            await hand.until(FIRST, Phase.READY)
            later = hand.moved_to(await subject.another())
            await later.until_complete()
            for verb in Verb:
                action = launch if verb is Verb.LAUNCH else Action(verb=verb, number=2, instance=FIRST)
                try:
                    await subject.platform.apply(action, hand.env)
                except Conflict:
                    continue
                raise AssertionError(f"{verb} of a controller that was replaced was not refused")
            await later.act(Verb.ROUTE, table={FIRST: 256})
            seen = await later.until_complete()
            assert dict(seen.table) == {FIRST: 256}, "a controller that was replaced changed the traffic"
            assert seen.instances[FIRST].phase is Phase.READY, "a controller that was replaced ended an instance"

        self.run(body)

    def test_the_next_actions_are_a_function_of_what_is_known(self) -> None:
        """``actions`` is pure, numbers from the last act on, and gives nothing on an incomplete observation."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            target = Allocation(holdings=(Holding(release=subject.serving.id, process="web", serving=2),))
            seen = await hand.look()
            found = subject.platform.actions(target, hand.env, seen)
            assert found, "nothing is to be done for an allocation that is not held"
            assert found == subject.platform.actions(target, hand.env, seen), "the same facts gave other actions"
            numbers = [action.number for action in found]
            first = hand.env.actions + 1
            assert numbers == list(range(first, first + len(numbers))), f"the numbers are {numbers}"
            unknown = replace(seen, complete=False)
            assert not subject.platform.actions(target, hand.env, unknown), "an act on what is not known"
            assert not (await hand.look()).instances, "asking for the actions did something"

        self.run(body)

    def test_the_output_of_an_instance_comes_whole_and_following_it_ends(self) -> None:
        """Logs."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            await hand.launch(FIRST, subject.exiting)
            async with hand.within():
                lines = await hand.output(FIRST, follow=True)
            assert [line.text for line in lines][:1] == ["begins"], f"its output is told as {lines}"
            assert {line.stream for line in lines} <= {"stdout", "stderr"}, "a stream of another name"
            assert {line.instance for line in lines} == {FIRST}, "lines of another instance"

        self.run(body)

    def test_the_end_of_an_instance_wakes_the_controller(self) -> None:
        """Watch: the controller also looks by itself from time to time, but must not depend on that."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            woken = asyncio.Event()
            names: list[EnvironmentId] = []

            def changed(name: EnvironmentId) -> None:
                names.append(name)
                woken.set()

            subject.platform.watch(changed)
            await hand.launch(FIRST, subject.serving)
            await hand.until(FIRST, Phase.READY)
            await asyncio.sleep(0.2)
            woken.clear()
            await hand.act(Verb.KILL, FIRST)
            async with hand.within(5):
                await woken.wait()
            assert set(names) == {hand.env.id}, f"the news are of {set(names)}"

        self.run(body)


def _exit(seen: Seen) -> Exit:
    assert seen.exit is not None, f"{seen.id} has ended, and nothing says how"
    return seen.exit
