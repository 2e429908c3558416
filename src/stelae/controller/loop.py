"""The loop of one environment: observe → decide → record → act, until nothing is left to do; then wait.

Everything it does follows from the record and from an observation, so it may be killed at any point: what
was intended and has no outcome is carried out again when it starts, by the same number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from stelae.controller import abilities, freezes
from stelae.controller.letting_in import Judged, LettingIn, lets_in
from stelae.controller.policy import Policy
from stelae.controller.record import Record
from stelae.controller.scaler import Scaler
from stelae.controller.watching import Watch
from stelae.core import resume, verification
from stelae.core.decide import Decision, decide
from stelae.domain.action import Action, Verb
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import StelaeError
from stelae.domain.event import ActionDone, ActionIntended, Event
from stelae.domain.observation import Observation
from stelae.domain.state import EnvironmentState
from stelae.domain.units import SECOND, Instant
from stelae.platforms.port import Platform
from stelae.system import points

log = structlog.get_logger(__name__)

AT_REST = 5.0
"""Seconds after which an environment is looked at again though nothing called for it."""

DRAINING = 0.1
"""Seconds between two looks while open connections are waited for: no event tells of their end."""

AFTER_FAILURE = 1.0
"""Seconds to wait after an act that failed, so that a broken part is not hammered."""

LONGEST_ERROR = 2_000
"""Characters of an act's error that are recorded: an entry of the record has a limit."""


OVERTAKEN = "not done: something else was asked for meanwhile"
"""The recorded outcome of an act that was intended before an abort, or before another deployment."""


class EnvironmentLoop:
    """Holds one environment to its record."""

    def __init__(
        self, name: EnvironmentId, record: Record, platform: Platform, clock: Callable[[], Instant], policy: Policy,
        watch: Watch | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self._watch = watch or Watch()
        self._record = record
        self._platform = platform
        self._clock = clock
        self._letting_in = LettingIn(policy)
        self._wake = asyncio.Event()
        self._beside: asyncio.TaskGroup
        self._resumed = False
        self._scaler = Scaler(name, record, clock, lambda: abilities.of(platform, self._env))

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    async def run(self) -> None:
        """Run until cancelled. Errors of parts are logged and tried again; none ends the loop."""
        while True:
            try:
                async with asyncio.TaskGroup() as self._beside:
                    self._resumed = False
                    while True:
                        self._wake.clear()
                        await self._wait(await self._pass())
            except* StelaeError as errors:
                for error in errors.exceptions:
                    log.warning("loop.failed", environment=self.name, problem=str(error))
            except* Exception:
                log.exception("loop.crashed", environment=self.name)
            await asyncio.sleep(AFTER_FAILURE)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    @property
    def _env(self) -> EnvironmentState:
        return self._record.environment(self.name) or EnvironmentState(id=self.name)

    async def _pass(self) -> float:
        """Observe, decide, record and act once; return the seconds to wait before the next pass.

        What is recorded is decided in its turn: a request that was recorded while this pass waited for the record
        counts, and no rollout ends twice.
        """
        seen = await self._observe()
        self._watch.looked(seen)
        decision = self._decide(seen)
        if decision.events:
            enters = lets_in(self._env, decision.events)
            judged = await self._letting_in.proofs(self._env) if enters else None
            await self._record.append(lambda: self._to_record(seen, judged), environment=self.name)
            return 0
        if seen is None or not seen.complete:
            return self._until(decision.wake, seen)
        if not self._resumed:
            self._resumed = await self._resume(seen)
            return 0
        await self._tell_of_watch()
        if await self._scaler.scale(seen):
            return 0
        if not self._next_actions(seen):
            return self._until(decision.wake, seen)
        intended = await self._record.append(lambda: self._intents(seen), environment=self.name)
        actions = [item.event.action for item in intended if isinstance(item.event, ActionIntended)]
        return 0 if await self._carry_out(actions, seen) else AFTER_FAILURE

    async def _tell_of_watch(self) -> None:
        """Record from time to time that it was looked at, once all that was seen is recorded."""
        found = self._watch.standing if self._watch.due() else None
        if found is not None:
            await self._record.append([found], environment=self.name)
            self._watch.recorded(found)

    def _to_record(self, seen: Observation | None, judged: Judged | None) -> Sequence[Event]:
        env, decided = self._env, self._decide(seen).events
        return self._letting_in.events(env, decided, judged) if lets_in(env, decided) else decided

    def _decide(self, seen: Observation | None) -> Decision:
        """What time has brought comes first: a rollout that waits must not begin in a freeze that nobody knew of."""
        env, now = self._env, self._clock()
        brought = freezes.brought(env, seen, now)
        if brought:
            return Decision(events=brought)
        decision = decide(env, seen, now)
        wakes = [at for at in (decision.wake, verification.wake(env, now)) if at is not None]
        return replace(decision, wake=min(wakes, default=None))

    async def _resume(self, seen: Observation) -> bool:
        """Carry out again what was intended before a crash and is still right; every act is idempotent by its
        number. False when something was recorded meanwhile, so that what is right has to be decided first."""
        again: list[Action] = []
        decided = True
        begun = [one for one in self._launched_unseen(seen) if await self._platform.began(one, self._env)]

        def outcomes() -> list[ActionDone]:
            nonlocal decided
            decided = not decide(self._env, seen, self._clock()).events
            if not decided:
                return []
            pending = sorted(self._env.pending.values(), key=lambda action: action.number)
            env = resume.undone(self._env, pending)
            proposed = self._platform.actions(env.allocation, env, seen)
            known = []
            for action in pending:
                if resume.was_done(action, seen, once=action.instance in env.runs):
                    known.append(ActionDone(number=action.number))
                elif action in begun:
                    known.append(ActionDone(number=action.number, error=resume.DOUBT, unsure=True))
                elif resume.still_right(action, env, proposed):
                    again.append(action)
                else:
                    known.append(ActionDone(number=action.number, error=resume.DROPPED))
            return known

        await self._record.append(outcomes, environment=self.name)
        if again:
            await self._carry_out(again, seen)
        return decided

    def _launched_unseen(self, seen: Observation) -> list[Action]:
        """The launches of runs whose outcome is not recorded and whose instance is not seen."""
        return [
            action
            for action in self._env.pending.values()
            if self._is_of_run(action) and action.instance not in seen.instances
        ]

    def _is_of_run(self, action: Action) -> bool:
        return action.verb is Verb.LAUNCH and action.instance in self._env.runs

    def _next_actions(self, seen: Observation) -> Sequence[Action]:
        env = self._env
        return self._platform.actions(env.allocation, env, seen)

    def _intents(self, seen: Observation) -> Sequence[ActionIntended]:
        """Return what to do; nothing when something was recorded meanwhile that asks for another allocation."""
        if self._decide(seen).events:
            return ()
        return [ActionIntended(action=action) for action in self._next_actions(seen)]

    def _until(self, wake: Instant | None, seen: Observation | None) -> float:
        if seen is None:
            return AFTER_FAILURE
        limit = AT_REST
        draining = any(view.connections and view.id not in seen.table for view in seen.instances.values())
        if draining or not seen.complete:
            limit = DRAINING
        limit = min(limit, self._scaler.pause() or limit)
        if wake is None:
            return limit
        return min(limit, max(0.0, (wake - self._clock()) / SECOND))

    async def _observe(self) -> Observation | None:
        """Return what is there; None when that cannot be told, whatever the reason: its deadline must run."""
        try:
            return await self._platform.observe(self._env)
        except StelaeError as error:
            log.warning("platform.unreachable", environment=self.name, problem=str(error))
        except Exception:
            log.exception("platform.crashed", environment=self.name)
        return None

    async def _carry_out(self, actions: Sequence[Action], seen: Observation) -> bool:
        """Apply recorded *actions*, decided by *seen*: launches side by side, then the rest in order; record the
        outcomes. Removals of instances go on beside the loop: what has ended is in nobody's way, and a rollout must
        not wait for its end."""
        launches, routes, others = list[Action](), list[Action](), list[Action]()
        for action in actions:
            if action.verb is Verb.REMOVE:
                self._beside.create_task(self._remove(action))
            elif action.verb in (Verb.ROUTE, Verb.SET_TRAFFIC):
                routes.append(action)
            else:
                (launches if _launches(action, seen) else others).append(action)
        outcomes: list[ActionDone] = []
        asked = self._asked()
        for group in (launches, routes, others):
            if group is not launches and self._asked() != asked:
                # A launch takes a while. After an abort no traffic goes to what was launched, and nothing is ended.
                outcomes += [ActionDone(number=action.number, error=OVERTAKEN) for action in group]
                continue
            outcomes += await asyncio.gather(*(self._apply(action) for action in group))
        outcomes.sort(key=lambda done: done.number)
        if outcomes:
            await self._record.append(outcomes, environment=self.name)
        return not any(done.error and done.error != OVERTAKEN for done in outcomes)

    def _asked(self) -> tuple[object, ...]:
        """What people want of the environment."""
        env = self._env
        return (env.down, *((env.rollout.deployment, env.rollout.phase) if env.rollout is not None else ()))

    async def _remove(self, action: Action) -> None:
        done = await self._apply(action)
        if done.error:
            await asyncio.sleep(AFTER_FAILURE)  # until its outcome is recorded it is not tried again
        await self._record.append([done], environment=self.name)
        self.wake()

    async def _apply(self, action: Action) -> ActionDone:
        try:
            await self._act(action)
        except StelaeError as error:
            log.warning("action.failed", environment=self.name, verb=action.verb, problem=str(error))
            text = "; ".join((str(error), *error.details[-3:]))
            return await self._failed(action, text)
        except Exception as error:  # a fault in one act must not hold up all others, and is an outcome too
            log.exception("action.crashed", environment=self.name, verb=action.verb)
            return await self._failed(action, f"{type(error).__name__}: {error}")
        return ActionDone(number=action.number)

    async def _failed(self, action: Action, error: str) -> ActionDone:
        """The outcome of an act that failed; a run that cannot be asked about may have begun."""
        unsure = False
        if self._is_of_run(action):
            try:
                unsure = await self._platform.began(action, self._env)
            except StelaeError:
                unsure = True
        return ActionDone(number=action.number, error=error[:LONGEST_ERROR], unsure=unsure)

    @points.around(lambda self, action: f"action.{action.verb}")
    async def _act(self, action: Action) -> None:
        """Do *action*. Every act of every platform comes through here, and so by its two points."""
        await self._platform.apply(action, self._env)


def _launches(action: Action, seen: Observation) -> bool:
    """True for an act that takes nothing away: a launch, or one by which a set grows."""
    if action.verb is Verb.ENSURE_SET:
        return action.count > seen.sets.get((action.release, action.process), 0)
    return action.verb is Verb.LAUNCH
