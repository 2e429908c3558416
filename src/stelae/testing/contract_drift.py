"""The contract of a platform for drift: what it finds of instances that are not what they were launched as.

``stelae.testing.contract.PlatformContract`` has these tests too. A platform whose instances can be made to drift is
given ``Subject.tamper``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stelae.domain.action import Verb
from stelae.domain.allocation import InstanceId
from stelae.domain.observation import Phase
from stelae.testing.contract_run import Contract

if TYPE_CHECKING:
    from stelae.testing.contract import Subject
    from stelae.testing.hand import Hand

ONE, OTHER = InstanceId("web-one-1"), InstanceId("web-other-2")

FULL = 256


class DriftContract(Contract):
    """The tests of inspections."""

    def test_what_runs_as_it_was_launched_has_not_drifted(self) -> None:
        """Nothing is found of it, however often and thoroughly it is looked at, and all of it is looked at."""

        async def body(subject: Subject) -> None:
            hand = await _two(subject)
            for thorough in (False, True, False):
                found = await hand.inspect(thorough=thorough)
                assert found.inspected == {ONE, OTHER}, f"not all was inspected: {found}"
                assert found.findings == (), f"something is found: {found.findings}"
            later = hand.moved_to(await subject.another())
            found = await later.inspect()
            assert found.findings == (), f"the next controller finds {found.findings}"

        self.run(body)

    def test_an_inspection_says_when_it_was_made_and_changes_nothing(self) -> None:
        """It is no older than the question, and the instances and the traffic stay as they are."""

        async def body(subject: Subject) -> None:
            hand = await _two(subject)
            before = await hand.look()
            found = await hand.inspect()
            assert found.as_of >= before.as_of, "it was made before it was asked for"
            after = await hand.look()
            assert set(after.instances) == set(before.instances), "an inspection changed what is there"
            assert dict(after.table) == dict(before.table), "an inspection changed the traffic"
            assert all(view.phase is Phase.READY for view in after.instances.values()), "one is not ready any more"

        self.run(body)

    def test_what_ends_or_is_asked_to_has_not_drifted(self) -> None:
        """Also while it is inspected."""

        async def body(subject: Subject) -> None:
            hand = await _two(subject)
            await hand.act(Verb.ROUTE, table={ONE: FULL})
            looking = asyncio.create_task(hand.inspect(thorough=True))
            await hand.act(Verb.STOP, OTHER)
            assert not (await looking).findings, f"something is found of what ends: {looking.result().findings}"
            await hand.until(OTHER, Phase.EXITED)
            found = await hand.inspect()
            assert OTHER not in found.inspected, "what has ended was inspected"
            assert found.findings == (), f"something is found of what has ended: {found.findings}"

        self.run(body)

    def test_one_that_was_tampered_with_is_found_and_no_other(self) -> None:
        """It is the same difference at each look, as long as it lasts; the next controller finds it too."""

        async def body(subject: Subject) -> None:
            if subject.tamper is None:
                return
            hand = await _two(subject)
            await subject.tamper(OTHER)
            found = await hand.inspect()
            assert {item.instance for item in found.findings} == {OTHER}, f"it is not what is found: {found}"
            told = {(item.kind, item.what) for item in found.findings}
            later = hand.moved_to(await subject.another())
            again = await later.inspect()
            assert {(item.kind, item.what) for item in again.findings} == told, "it is another difference each time"

        self.run(body)


async def _two(subject: Subject) -> Hand:
    """Return a hand with two instances that have the traffic."""
    hand = subject.hand()
    for name in (ONE, OTHER):
        await hand.launch(name, subject.serving)
    for name in (ONE, OTHER):
        await hand.until(name, Phase.READY)
    await hand.act(Verb.ROUTE, table={ONE: FULL, OTHER: FULL})
    await hand.until_complete()
    return hand
