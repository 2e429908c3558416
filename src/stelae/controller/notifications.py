"""Notifications: the webhooks of an environment are told of what happened to it, beside everything else.

At least once: which events were told is kept in a file, so that one that was being told when the controller ended is
told again; ``index`` in the message is the same then. A hook that does not answer is tried again for a while, and
then that is recorded. Nothing waits for it.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import structlog
from anyio import to_thread

from stelae.controller.ask import NoAnswer, ask
from stelae.controller.record import CONTROLLER, Record
from stelae.controller.sentences import sentence
from stelae.domain import event as ev
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import StelaeError
from stelae.domain.event import Event, Recorded
from stelae.domain.promotion import Moment, Webhook
from stelae.domain.state import EnvironmentState, Outcome
from stelae.system.files import write_atomic

Json = dict[str, Any]
Post = Callable[[str, bytes], str]
"""Sends bytes to an address; what went wrong, "" when it was taken."""

TRIES = 8
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds between two tries: twice as long each time, about two minutes in all."""

SECONDS = 10
"""How long a hook may take to answer, all in all."""

AT_ONCE = 8
"""How many are told at once."""

_PAGE = 1000
_ENDS = {
    Outcome.SUCCEEDED: Moment.SUCCEEDED, Outcome.REVERTED: Moment.REVERTED, Outcome.FAILED: Moment.FAILED,
    Outcome.CANCELLED: Moment.CANCELLED,
}  # fmt: skip

log = structlog.get_logger(__name__)


def post(url: str, body: bytes) -> str:
    """POST JSON to *url*; redirects are not followed. Returns what went wrong, "" when it answered 2xx."""
    try:
        reply = ask(url, body, kind="application/json", seconds=SECONDS)
    except NoAnswer as silence:
        return str(silence)
    return "" if reply.fine else f"it answered {reply.status}"


class Notifier:
    """Tells webhooks of events of *record*; *place* is the file that says up to where that is done."""

    def __init__(self, record: Record, place: Path, send: Post = post) -> None:
        self._record = record
        self._place = place
        self._send = send
        self._room = asyncio.Semaphore(AT_ONCE)
        self._open: Counter[int] = Counter()
        self._hooks: dict[EnvironmentId, tuple[Webhook, ...]] = {}
        self._seen = 0
        self._kept = 0

    async def keep_telling(self) -> None:
        """Tell what happens, and what happened since the last controller told something, until cancelled."""
        environments = self._record.state.environments
        self._hooks = {env.id: env.config.notify for env in environments.values() if env.config is not None}
        self._seen = await to_thread.run_sync(self._begin)
        await self._keep()
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self._look(group)
                except StelaeError as error:
                    log.warning("notifications.failed", problem=str(error))
                    await asyncio.sleep(LONGEST_PAUSE)
                await self._record.changed(self._seen)

    async def _look(self, group: asyncio.TaskGroup) -> None:
        """Begin to tell of what was recorded since the last look."""
        while self._seen < (size := self._record.state.size):
            end = min(size, self._seen + _PAGE)
            page = await to_thread.run_sync(self._page, self._seen, end)
            for item in page:
                for hook, body in self._due(item):
                    self._open[item.index] += 1
                    group.create_task(self._tell(item.index, hook, body))
            self._seen += len(page)
            # Hooks that are added later are not told of what was before.
            applied = any(isinstance(item.event, ev.EnvironmentApplied) for item in page)
            if applied or self._seen >= self._kept + _PAGE:
                await self._keep()

    def _page(self, start: int, end: int) -> list[Recorded]:
        return list(self._record.ledger.read(start, end))

    def _begin(self) -> int:
        """Where to go on; an installation that never told anything begins with what comes now."""
        try:
            return min(int(self._place.read_text("ascii")), self._record.state.size)
        except (OSError, ValueError):
            return self._record.state.size

    async def _keep(self) -> None:
        """Remember that all before the first event that is still being told is done."""
        self._kept = min(self._open, default=self._seen)
        try:
            await to_thread.run_sync(partial(write_atomic, self._place, f"{self._kept}\n".encode("ascii")))
        except OSError as error:
            log.warning("notifications.not_kept", problem=str(error))

    def _due(self, item: Recorded) -> Iterator[tuple[Webhook, bytes]]:
        hooks = self._hooks_at(item)
        env = self._record.state.environments.get(item.environment)
        moment = moment_of(item.event) if hooks else None
        if env is None or moment is None:
            return
        body = json.dumps(message(item, moment, env)).encode()
        always = moment is Moment.EMERGENCY  # whoever goes round a freeze is told of, whatever a hook asks for
        yield from ((hook, body) for hook in hooks if always or moment in hook.on)

    def _hooks_at(self, item: Recorded) -> tuple[Webhook, ...]:
        """Return the hooks that there were at *item*; of a change those before it too, so that who takes hooks away
        does not do so unseen."""
        before = self._hooks.get(item.environment, ())
        if not isinstance(item.event, ev.EnvironmentApplied):
            return before
        after = self._hooks[item.environment] = item.event.environment.notify
        return (*after, *(hook for hook in before if hook not in after))

    async def _tell(self, index: int, hook: Webhook, body: bytes) -> None:
        problem, pause = "", FIRST_PAUSE
        for left in reversed(range(TRIES)):
            async with self._room:
                problem = await self._tried(hook.url, body)
            if not problem or not left:
                break
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)
        if problem:
            await self._failed(index, hook, problem)
        self._open[index] -= 1
        self._open += Counter()  # without what is done
        await self._keep()

    async def _tried(self, url: str, body: bytes) -> str:
        """Send it in a thread that the end of the controller does not wait for."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str] = loop.create_future()

        def work() -> None:
            try:
                problem = self._send(url, body)
            except Exception as error:  # whatever a hook's answer leads to, it must not end the controller
                log.exception("notification.crashed")
                problem = type(error).__name__
            with suppress(RuntimeError):  # the controller has ended
                loop.call_soon_threadsafe(_put, done, problem)

        Thread(target=work, name="webhook", daemon=True).start()
        return await done

    async def _failed(self, index: int, hook: Webhook, problem: str) -> None:
        (item,) = await to_thread.run_sync(self._record.ledger.read, index, index + 1)
        event = ev.NotificationFailed(index=index, to=urlsplit(hook.url).hostname or "", problem=problem[:200])
        try:
            await self._record.append([event], actor=CONTROLLER, environment=item.environment, urgent=False)
        except StelaeError:
            log.warning("notification.failed", to=event.to, problem=event.problem)


def _put(done: asyncio.Future[str], problem: str) -> None:
    if not done.done():
        done.set_result(problem)


def moment_of(event: Event) -> Moment | None:
    """Return what *event* is to those outside, None for what concerns nobody there."""
    match event:
        case ev.RolloutEnded():
            return _ENDS.get(event.outcome)
        case ev.DeploymentRequested():
            return Moment.EMERGENCY if event.emergency else None
        case ev.PersonAwaited():
            return Moment.WAITING if event.reason else None
        case ev.ImageVerified():
            return Moment.VERIFIED
        case ev.EnvironmentApplied():
            return Moment.POLICY
        case ev.DriftFound() | ev.DriftStorm():
            return Moment.DRIFT
    return None


def message(item: Recorded, moment: Moment, env: EnvironmentState) -> Json:
    """Return what a hook gets: what happened, in words and in parts; never a setting or a secret."""
    deployment = env.deployments.get(getattr(item.event, "deployment", ""))
    release = env.releases.get(deployment.release) if deployment is not None else None
    return {
        "moment": moment.value,
        "text": f"{item.environment}: {sentence(item.event)}",
        "environment": item.environment,
        "kind": item.event.kind,
        "index": item.index,
        "at": item.at,
        "actor": item.actor,
        "deployment": deployment.id if deployment is not None else "",
        "release": release.id if release is not None else "",
        "image": release.image if release is not None else "",
        "requested_by": deployment.actor if deployment is not None else "",
        "reason": getattr(item.event, "reason", "") or getattr(item.event, "emergency", ""),
    }
