"""The record: the ledger and the state that is folded from it, kept in step.

Appends happen one after the other, each with its fold: who decides inside an append (by giving a function) decides
on all that was recorded before, and nothing comes in between. ``changed`` wakes those who wait for something to
happen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from stelae.core import fold
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed, StelaeError
from stelae.domain.event import ClockDiffers, Event, Recorded, RequestRefused
from stelae.domain.state import EnvironmentState, InstallationState
from stelae.domain.units import SECOND, Duration
from stelae.ledger import state_codec
from stelae.ledger.faults import Replaced
from stelae.ledger.projection import Projections
from stelae.ledger.store import Draft, Ledger

CONTROLLER = "controller"
"""The actor of what nobody asked for."""

PROJECTION = "installation"

Events = Sequence[Event] | Callable[[], Sequence[Event]]
"""Events, or a function that makes them from the state as it is when nothing else is being recorded."""


class Record:
    """The ledger of a running controller, with its folded state."""

    def __init__(self, ledger: Ledger, projections: Projections, ahead: Callable[[], Duration] = lambda: 0) -> None:
        """*ahead* tells how far the ledger's clock is ahead of the machine's."""
        self.ledger = ledger
        self._ahead = ahead
        self._projections = projections
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._listeners: list[Callable[[Recorded], None]] = []
        self._news = asyncio.Condition()
        self._turn = asyncio.Lock()
        self._closed = False
        self.replaced = asyncio.Event()
        """Set when another controller has taken over: nothing can be recorded any more."""
        self.state = self._load()

    def _load(self) -> InstallationState:
        """Fold the ledger, from the cached state where there is one: it may be deleted at any time."""
        cached = self._projections.load(PROJECTION)
        state = InstallationState()
        if cached is not None:
            # A projection of another version's state is no use, and no harm.
            with contextlib.suppress(Failed):
                state = state_codec.decode(cached[1])
        return fold.apply_all(state, self.ledger.read(state.size))

    def environment(self, name: EnvironmentId) -> EnvironmentState | None:
        """Return the state of environment *name*, None when nothing was ever recorded of it."""
        return self.state.environments.get(name)

    def listen(self, listener: Callable[[Recorded], None]) -> None:
        """Have *listener* called, in the event loop, for each event, once all that was recorded with it is folded."""
        self._listeners.append(listener)

    async def append(
        self, events: Events, *, actor: str = CONTROLLER, environment: str = "", key: str = "", urgent: bool = True
    ) -> tuple[Recorded, ...]:
        """Record *events* in one transaction and fold them; a function is called when it is its turn, and what it
        raises is raised here.

        Outcomes, refusals and ways back are *urgent*: they may use the ledger's reserve on a full disk.
        Raises Failed when the disk is full or the ledger is broken; then nothing was recorded.
        """

        def drafts() -> list[Draft]:
            name = EnvironmentId(environment)
            chosen = events() if callable(events) else events
            return [Draft(event=event, actor=actor, environment=name, key=key) for event in chosen]

        return await self.append_drafts(drafts, urgent=urgent)

    async def asked(
        self, what: str, events: Events, *, actor: str, environment: str, urgent: bool = True
    ) -> tuple[Recorded, ...]:  # fmt: skip
        """As ``append``, for what *actor* asks for, which is called *what*: a refusal is recorded too, and raised."""
        try:
            return await self.append(events, actor=actor, environment=environment, urgent=urgent)
        except StelaeError as refusal:
            refused = RequestRefused(request=what, reason=str(refusal))
            await self.append([refused], actor=actor, environment=environment)
            raise

    async def append_drafts(self, drafts: Callable[[], Sequence[Draft]], *, urgent: bool) -> tuple[Recorded, ...]:
        """As ``append``, for events of several environments."""
        # A cancelled request must not leave an event recorded and not folded.
        task = asyncio.ensure_future(self._append(drafts, urgent))
        task.add_done_callback(_heard)
        return await asyncio.shield(task)

    async def _append(self, drafts: Callable[[], Sequence[Draft]], urgent: bool) -> tuple[Recorded, ...]:
        async with self._turn:
            if self._closed:
                raise Failed("the record is closed", hint="the controller is ending; start it again: stelae up")
            chosen = drafts()
            if not chosen:
                return ()
            of_clock = self._of_clock()
            chosen = [*of_clock, *chosen]
            loop = asyncio.get_running_loop()
            try:
                recorded = await loop.run_in_executor(self._writer, lambda: self.ledger.append(chosen, urgent=urgent))
            except Replaced:
                self.replaced.set()
                raise
            self.state = fold.apply_all(self.state, recorded)
            for item in recorded:
                for listener in self._listeners:
                    listener(item)
        async with self._news:
            self._news.notify_all()
        return recorded[len(of_clock) :]

    def _of_clock(self) -> list[Draft]:
        """What has to be said first, so that the times of what follows are read rightly: a record that is ahead of
        the machine's clock says so, and says when it is not any more."""
        ahead, told = self._ahead(), self.state.ahead
        if ahead > told + SECOND or (told and not ahead):
            return [Draft(event=ClockDiffers(ahead=ahead), actor=CONTROLLER)]
        return []

    def check_mine(self) -> None:
        """Raise Replaced when another controller has taken over, also when nothing is to be recorded."""
        try:
            self.ledger.check_mine()
        except Replaced:
            self.replaced.set()
            raise

    async def changed(self, size: int) -> None:
        """Return as soon as more than *size* events are recorded."""
        async with self._news:
            await self._news.wait_for(lambda: self.state.size > size)

    def close(self) -> None:
        """Keep the folded state for a quick start (unless another controller does), and close the ledger."""
        self._closed = True
        self._writer.shutdown(wait=True)
        if not self.replaced.is_set():
            self._projections.save(PROJECTION, self.state.size, state_codec.encode(self.state))
        self.ledger.close()


def _heard(task: asyncio.Task[tuple[Recorded, ...]]) -> None:
    """Take the error of what nobody awaits any more: the controller ends, and would log it as forgotten."""
    if not task.cancelled():
        task.exception()
