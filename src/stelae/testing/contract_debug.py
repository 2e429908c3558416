"""The contract of a platform for debug sessions: a person talks to one, it ends as it is told to, and leaves nothing.

``stelae.testing.contract.PlatformContract`` has these tests too; a platform without ``Capability.TERMINALS`` passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from stelae.domain.action import Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.observation import Phase
from stelae.domain.run import RunOutcome, Window
from stelae.platforms.port import Capability, LogLine, Terminal
from stelae.testing.contract_run import Contract

if TYPE_CHECKING:
    from stelae.testing.contract import Subject

SESSION = InstanceId("debug-first-1")
PATIENCE = 20.0


class DebugContract(Contract):
    """The tests of debug sessions."""

    def test_a_person_talks_to_a_debug_session_and_its_exit_status_is_told(self) -> None:
        """Through pipes and through a terminal; what was said is not kept, and nothing is left."""

        async def body(subject: Subject) -> None:
            if Capability.TERMINALS not in subject.platform.capabilities or subject.talking is None:
                return
            for number, window in enumerate((None, Window(rows=24, columns=80))):
                hand, name = subject.hand(), InstanceId(f"debug-first-{number + 1}")
                terminal = await hand.debug(name, subject.talking, window)
                await terminal.resize(30, 90)
                await terminal.write(b"hello\n")
                await until_said(terminal, b"got hello", hand.patience)
                seen = await hand.look()
                assert seen.instances[name].phase is Phase.STARTING, f"it is {seen.instances[name].phase}"
                assert not seen.table, "a debug session has traffic"
                await terminal.write(b"exit 7\n")
                await rest(terminal, hand.patience)
                await hand.until(name, Phase.EXITED)
                run = hand.env.runs[name]
                assert (run.outcome, run.exit and run.exit.code) == (RunOutcome.ENDED, 7), f"told as {run}"
                terminal.close()
                assert await silent(hand.output(name)), "what was said in it was kept"
                await hand.act(Verb.REMOVE, name)
                left = await subject.left()
                assert left == [], f"something is left of it: {left}"

        self.run(body)

    def test_the_end_of_what_is_typed_ends_a_session_without_a_terminal(self) -> None:
        """Its program reads the end of its input; what it writes before it ends still comes."""

        async def body(subject: Subject) -> None:
            if Capability.TERMINALS not in subject.platform.capabilities or subject.talking is None:
                return
            hand = subject.hand()
            terminal = await hand.debug(SESSION, subject.talking)
            await terminal.write(b"one\ntwo\n")
            await until_said(terminal, b"got two", hand.patience)
            await terminal.end()
            await rest(terminal, hand.patience)
            found = await hand.until(SESSION, Phase.EXITED)
            assert found.exit is not None
            assert found.exit.code == 0, f"it ended with {found.exit.code}"
            terminal.close()
            await hand.act(Verb.REMOVE, SESSION)

        self.run(body)

    def test_a_session_outlives_its_controller_and_can_be_talked_to_and_ended_by_the_next(self) -> None:
        """Attach again, then kill; to attach to what is gone is refused."""

        async def body(subject: Subject) -> None:
            if Capability.TERMINALS not in subject.platform.capabilities or subject.talking is None:
                return
            hand = subject.hand()
            first = await hand.debug(SESSION, subject.talking, Window(rows=24, columns=80))
            await first.write(b"before\n")
            await until_said(first, b"got before", hand.patience)
            first.close()
            await subject.platform.close()
            platform = await subject.another()
            later = hand.moved_to(platform)
            await later.until_complete()
            again = await platform.attach(later.env.id, SESSION)
            await again.write(b"after\n")
            await until_said(again, b"got after", hand.patience)
            await later.act(Verb.KILL, SESSION)
            await rest(again, hand.patience)
            again.close()
            await later.until(SESSION, Phase.EXITED)
            await later.act(Verb.REMOVE, SESSION)
            try:
                (await platform.attach(later.env.id, SESSION)).close()
            except Failed:
                return
            raise AssertionError("what is gone could be attached to")

        self.run(body)


async def until_said(terminal: Terminal, text: bytes, patience: float = 1.0) -> bytes:
    """Read until *text* was said; return all that was read. The time limit is multiplied by *patience*."""
    said = b""
    async with asyncio.timeout(PATIENCE * patience):
        while text not in said:
            piece = await terminal.read()
            assert piece is not None, f"it ended, and had said {said!r}"
            said += piece[1]
    return said


async def rest(terminal: Terminal, patience: float = 1.0) -> None:
    """Read to the end. The time limit is multiplied by *patience*."""
    async with asyncio.timeout(PATIENCE * patience):
        while await terminal.read() is not None:
            pass


async def silent(output: Awaitable[list[LogLine]]) -> bool:
    """True when *output* is empty, or not kept."""
    try:
        return not await output
    except InvalidInput:
        return True
