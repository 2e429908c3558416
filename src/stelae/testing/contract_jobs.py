"""The contract of a platform for the runs of jobs: launched once, told of, ended at their time, and never capacity.

``stelae.testing.contract.PlatformContract`` has these tests too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stelae.domain.action import Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.observation import Phase
from stelae.domain.run import RunOutcome
from stelae.testing.contract_run import Contract

if TYPE_CHECKING:
    from stelae.testing.contract import Subject

RUN = InstanceId("run-first-1")


class RunsContract(Contract):
    """The tests of runs; the program of a run is that of the process ``web`` of a release."""

    def test_a_run_is_started_once_and_its_end_and_output_are_told(self) -> None:
        """Repeated launches, before and after its end, start nothing; what it wrote outlives it."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            launch = await hand.start_run(RUN, subject.exiting)
            await hand.until(RUN, Phase.EXITED)
            await asyncio.gather(*(subject.platform.apply(launch, hand.env) for _ in range(3)))
            await hand.until(RUN, Phase.EXITED)
            run = hand.env.runs[RUN]
            assert run.outcome is RunOutcome.FAILED, f"it ended with status 3, and is told as {run.outcome}"
            assert run.exit is not None
            assert run.exit.code == 3, f"its exit status is told as {run.exit.code}"
            assert run.exit.last_lines, "its last lines are not told"
            await hand.act(Verb.REMOVE, RUN)
            assert RUN not in (await hand.look()).instances, "what was removed is seen"
            lines = [line.text for line in await hand.output(RUN)]
            assert lines.count("begins") == 1, f"its output, once it was removed: {lines}"

        self.run(body)

    def test_whether_a_run_began_is_known_to_the_next_controller(self) -> None:
        """What was never launched certainly never began; what was may have, until it is removed."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            launch = hand.intend_run(RUN, subject.exiting)
            assert not await subject.platform.began(launch, hand.env), "it was never launched, and may have begun"
            await hand.carry_out(launch, subject.exiting)
            assert await subject.platform.began(launch, hand.env), "it was launched, and is said never to have begun"
            await hand.until(RUN, Phase.EXITED)
            await subject.platform.close()
            later = hand.moved_to(await subject.another())
            await later.until_complete()
            assert await later.began(launch), "the next controller would launch it again"

        self.run(body)

    def test_a_run_is_ended_by_force_when_it_does_not_end(self) -> None:
        """Stop, then kill."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            await hand.start_run(RUN, subject.hanging)
            await hand.until_said(RUN, "begins")
            await hand.act(Verb.STOP, RUN)
            await asyncio.sleep(0.2)
            assert (await hand.look()).instances[RUN].phase is not Phase.EXITED, "a stop ended it by force"
            await hand.act(Verb.KILL, RUN)
            await hand.until(RUN, Phase.EXITED)
            found = hand.env.runs[RUN].exit
            assert found is not None
            assert found.code == 137, f"killed, and told as {found.code}"
            await hand.act(Verb.REMOVE, RUN)
            assert await subject.left() == [], "something is left of it"

        self.run(body)

    def test_a_run_is_never_ready_and_gets_no_traffic(self) -> None:
        """It is capacity of nothing, though a process of the same program would be ready."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            await hand.start_run(RUN, subject.serving)
            await hand.until_said(RUN, "begins")
            for _ in range(10):
                seen = await hand.look()
                assert seen.instances[RUN].phase is Phase.STARTING, f"a run is {seen.instances[RUN].phase}"
                assert not seen.table, "a run has traffic"
                await asyncio.sleep(0.05)
            for verb in (Verb.KILL, Verb.REMOVE):
                await hand.act(verb, RUN)

        self.run(body)
