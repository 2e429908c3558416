"""Use cases of debug sessions: a copy of an instance, with a shell for one person, out of traffic and for a while.

A session is a run (``stelae.core.runs``): launched once, ended at its time, removed. Here it is asked for, its
terminal is carried to the person who asked, and it is ended when that person has gone. What is said is recorded
nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from stelae.controller import abilities, references
from stelae.controller.record import Record
from stelae.controller.run_views import run_view
from stelae.controller.talk import Typed, carried
from stelae.core import runs, secrets, trust
from stelae.domain import event as ev
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Failed, InvalidInput, Refused, StelaeError
from stelae.domain.event import Recorded
from stelae.domain.release import Release
from stelae.domain.run import DEBUG, Debug, Run, RunOutcome, Window
from stelae.domain.state import EnvironmentState, Instance
from stelae.domain.units import HOUR, SECOND, Duration, Instant
from stelae.platforms.port import Capability, Platform, Shell

Json = dict[str, Any]

MOST_OPEN = 5
"""So many debug sessions of an environment go on at a time: each has the memory of a process."""

DEFAULT_LIMIT: Duration = HOUR

PATIENCE: Duration = 10 * SECOND
"""How long a session may be without a terminal: before the first one, and after a restart of the controller."""

AWAY = "its terminal went away"

ROOT = "root"

Key = tuple[EnvironmentId, InstanceId]


class Debugging:
    """Requests about debug sessions, and their terminals."""

    def __init__(self, record: Record, platform: Platform, clock: Callable[[], Instant]) -> None:
        self._record = record
        self._platform = platform
        self._clock = clock
        self._attached: set[Key] = set()
        self._alone: dict[Key, Instant] = {
            (env.id, run.id): clock() for env in record.state.environments.values() for run in runs.debugging(env)
        }
        self._news = asyncio.Event()
        self._wake: Callable[[EnvironmentId], None] = lambda _: None
        record.listen(self._heard)

    def _heard(self, item: Recorded) -> None:
        if isinstance(item.event, ev.RunRequested) and item.event.debug is not None:
            self._alone[(item.environment, item.event.run)] = self._clock()
            self._news.set()
        elif isinstance(item.event, ev.RunEnded):
            self._alone.pop((item.environment, item.event.run), None)

    async def open(self, actor: str, request: Json) -> Json:
        """Ask for a session; see ``Service.debug``."""
        found, instance = references.instance(self._record.state, request["instance"])
        release = found.releases[instance.release]
        shell = await self._shell(found, release, request)
        name = ""

        def events() -> list[ev.Event]:
            nonlocal name
            env = references.environment(self._record.state, found.id)
            known = next((run for run in env.runs.values() if request["key"] and run.key == request["key"]), None)
            name = known.id if known is not None else runs.name_of(env, release, DEBUG)
            if known is not None:
                return []
            self._admit(env, release)
            return [_asked(name, instance, release, shell, request)]

        await self._record.asked("debug", events, actor=actor, environment=found.id, urgent=False)
        env = references.environment(self._record.state, found.id)
        return run_view(env, env.runs[InstanceId(name)])

    async def _shell(self, env: EnvironmentState, release: Release, request: Json) -> Shell:
        """What the session runs; raises Failed when its image is not there any more."""
        if Capability.TERMINALS not in abilities.of(self._platform, env):
            raise InvalidInput(
                f"the platform of {env.id} has no debug sessions",
                hint=f"what its instances said: stelae logs {env.id.partition('/')[2]}",
            )
        trust.admit_release(self._record.state, release)
        await self._platform.prepare(release)
        if request["command"] and not request["tools"]:
            return Shell(command=tuple(request["command"]))
        shell = await self._platform.shell(release, tools=request["tools"])
        return Shell(command=tuple(request["command"]) or shell.command, lent=shell.lent)

    def _admit(self, env: EnvironmentState, release: Release) -> None:
        if env.down:
            raise Conflict(f"{env.id} was taken down", hint="start it again: stelae up")
        trust.admit_release(self._record.state, release)
        secrets.admit(env, release)
        others = runs.debugging(env)
        if len(others) >= MOST_OPEN:
            names = ", ".join(f"{run.id} of {run.actor}" for run in others)
            raise Conflict(
                f"{len(others)} debug sessions of {env.id} go on, and no more may", hint=f"one has to end: {names}"
            )
        if not self._record.ledger.room():
            raise Failed("the disk is nearly full; nothing was started", hint="make room: stelae gc")

    async def terminal(self, actor: str, environment: str, name: str, typed: Typed) -> AsyncIterator[Json]:
        """Carry what is typed and what is shown; see ``Service.terminal``."""
        key = (EnvironmentId(environment), InstanceId(name))
        run = self._find(*key)
        if actor not in (run.actor, ROOT):
            raise Refused(f"{name} is a debug session of {run.actor}", hint="open one of your own: stelae debug")
        if key in self._attached:
            raise Conflict(f"{name} has a terminal already")
        self._attached.add(key)
        self._alone.pop(key, None)
        try:
            if await self._started(key, typed):
                terminal = await self._platform.attach(*key)
                try:
                    async for said in carried(terminal, typed):
                        yield {"progress": said}
                finally:
                    terminal.close()
            ended = await self._ended(key, typed)
            if ended:
                yield {"result": ended}
            else:
                await self._left(key)
        finally:
            self._attached.discard(key)
            with suppress(StelaeError):
                if self._find(*key).outcome is None:
                    self._alone[key] = self._clock()
                    self._news.set()

    async def keep_terminals(self, wake: Callable[[EnvironmentId], None]) -> None:
        """End each session whose terminal stays away; *wake* has an environment looked at."""
        self._wake = wake
        while True:
            due = [key for key, since in self._alone.items() if self._clock() >= since + PATIENCE]
            for key in due:
                with suppress(StelaeError):  # where nothing can be recorded now it is tried again
                    await self._left(key)
                    self._alone.pop(key, None)
            if not self._alone:
                self._news.clear()
                await self._news.wait()
            else:
                await asyncio.sleep(1)

    async def _left(self, key: Key) -> None:
        """Have the session end, whose person has gone."""

        def events() -> list[ev.Event]:
            run = self._find(*key)
            if run.outcome is not None or run.ending is not None:
                return []
            outcome = RunOutcome.CANCELLED
            if run.launched_at is None:
                return [ev.RunEnded(run=run.id, outcome=outcome, reason=AWAY)]
            return [ev.RunEnding(run=run.id, outcome=outcome, reason=AWAY)]

        await self._record.append(events, environment=key[0])
        self._wake(key[0])

    async def _started(self, key: Key, typed: Typed) -> bool:
        """Wait until the session runs; false when it is over, never ran, or the person has gone meanwhile."""
        while True:
            size = self._record.state.size
            run = self._find(*key)
            if run.outcome is not None or run.failed:
                return False
            if run.started:
                return True
            if not await typed.unless_gone(self._record.changed(size)):
                return False

    async def _ended(self, key: Key, typed: Typed) -> Json:
        """Wait until the session is over, and return it; {} when the person has gone before."""
        while True:
            size = self._record.state.size
            run = self._find(*key)
            if run.outcome is not None:
                return run_view(references.environment(self._record.state, key[0]), run)
            if not await typed.unless_gone(self._record.changed(size)):
                return {}

    def _find(self, environment: EnvironmentId, name: InstanceId) -> Run:
        run = references.environment(self._record.state, environment).runs.get(name)
        if run is None or run.debug is None:
            raise InvalidInput(f"{environment} has no debug session {name!r}", hint="stelae history lists them")
        return run


def _asked(name: str, instance: Instance, release: Release, shell: Shell, request: Json) -> ev.RunRequested:
    """Return what is recorded of a session that begins."""
    rows, columns = request["rows"], request["columns"]
    window = Window(rows=rows, columns=columns, term=request["term"] or "xterm") if rows and columns else None
    debug = Debug(
        instance=instance.id, process=instance.process, reason=request["reason"], window=window, lent=shell.lent
    )
    return ev.RunRequested(
        run=InstanceId(name), release=release.id, command=shell.command, timeout=request["timeout"] or DEFAULT_LIMIT,
        key=request["key"], debug=debug,
    )  # fmt: skip
