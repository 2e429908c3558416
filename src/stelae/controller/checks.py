"""Asks checks about candidates, beside the loops: Prometheus and webhooks; records what they say.

Formats: the HTTP API of Prometheus (https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries);
a webhook gets a POST with a JSON object and answers 2xx with ``{"verdict": "pass" | "fail" | "wait", "reason"}``.
What is answered comes from outside: it is small, soon and of that form, or it is no answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import structlog
from anyio import CapacityLimiter, to_thread

from stelae.controller.ask import NoAnswer, ask
from stelae.controller.record import Record
from stelae.core import checks
from stelae.core.checks import Due
from stelae.domain.check import CheckVerdict
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import StelaeError
from stelae.domain.event import CheckMeasured
from stelae.domain.state import EnvironmentState
from stelae.domain.strategy import CheckKind
from stelae.domain.units import SECOND, Instant

log = structlog.get_logger(__name__)

AT_ONCE = 16
"""So many checks are asked at once."""

AFTER_FAILURE = 5.0
"""Seconds to wait when an answer could not be recorded."""

_Key = tuple[EnvironmentId, str, int, str]
"""The environment, the deployment, the step and the name of a check."""

Answer = tuple[CheckVerdict, str, str]
"""The verdict, the number that came as text, and what was said in words."""


class Checker:
    """Asks what is due in every environment of *record*, and records the answers; *wake* is called after each."""

    def __init__(
        self, record: Record, clock: Callable[[], Instant], wake: Callable[[EnvironmentId], None],
        measure: Callable[[Due], Awaitable[Answer]] | None = None,
    ) -> None:  # fmt: skip
        self._record = record
        self._clock = clock
        self._wake = wake
        self._measure = measure or self._in_thread
        self._asking: set[_Key] = set()
        self._next: dict[_Key, float] = {}
        self._room = CapacityLimiter(AT_ONCE)
        self._news = asyncio.Event()

    async def keep_asking(self) -> None:
        """Ask whatever is due, until cancelled."""
        self._record.listen(lambda _: self._news.set())
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                waits = [self._begin(env, group) for env in tuple(self._record.state.environments.values())]
                wait = min((seconds for seconds in waits if seconds is not None), default=None)
                try:
                    async with asyncio.timeout(wait):
                        await self._news.wait()
                except TimeoutError:
                    pass

    def _begin(self, env: EnvironmentState, group: asyncio.TaskGroup) -> float | None:
        """Begin to ask what is due in *env*; return after how many seconds something is, None for never."""
        now, time, waits = self._clock(), asyncio.get_running_loop().time(), []
        for due in checks.due(env, now):
            key = (env.id, due.deployment, due.step, due.check.name)
            if key in self._asking:
                continue
            # By a clock that is never set: the other one may be put back again and again.
            at = self._next.setdefault(key, time + (due.at - now) / SECOND)
            if at > time:
                waits.append(at - time)
                continue
            self._asking.add(key)
            group.create_task(self._ask(env.id, due, key))
        return min(waits, default=None)

    async def _ask(self, name: EnvironmentId, due: Due, key: _Key) -> None:
        try:
            said = await self._answer(due)
            await self._record.append(lambda: self._measured(name, due, said), environment=name)
        except StelaeError as error:
            log.warning("check.failed", environment=name, check=due.check.name, problem=str(error))
            await asyncio.sleep(AFTER_FAILURE)
        finally:
            self._asking.discard(key)
            self._next.pop(key, None)
            self._news.set()
        self._wake(name)

    async def _answer(self, due: Due) -> Answer:
        """Looking a name up has no limit of its own, so there is one here."""
        try:
            async with asyncio.timeout(2 * due.check.timeout / SECOND):
                return await self._measure(due)
        except TimeoutError:
            return CheckVerdict.SILENT, "", f"no answer within {due.check.timeout / SECOND:g} s"

    async def _in_thread(self, due: Due) -> Answer:
        return await to_thread.run_sync(answer, due, abandon_on_cancel=True, limiter=self._room)

    def _measured(self, name: EnvironmentId, due: Due, said: Answer) -> list[CheckMeasured]:
        """An answer that came when its step was over is forgotten."""
        env = self._record.environment(name)
        rollout = env.rollout if env is not None else None
        if rollout is None or rollout.deployment != due.deployment or due.step not in (checks.BASELINE, rollout.step):
            return []
        verdict, value, reason = said
        return [
            CheckMeasured(
                deployment=due.deployment, step=due.step, check=due.check.name, verdict=verdict,
                value=checks.cut(value), reason=checks.cut(reason),
            )
        ]  # fmt: skip


def answer(due: Due) -> Answer:
    """Ask *due* and return what it says; whatever goes wrong is no answer, with the reason."""
    try:
        return _prometheus(due) if due.check.kind is CheckKind.PROMETHEUS else _webhook(due)
    except NoAnswer as silence:
        return CheckVerdict.SILENT, "", str(silence)


def _prometheus(due: Due) -> Answer:
    url = due.check.url.rstrip("/") + "/api/v1/query"
    body = urlencode({"query": due.query, "timeout": f"{due.check.timeout / SECOND:g}s"}).encode()
    reply = ask(url, body, kind="application/x-www-form-urlencoded", seconds=due.check.timeout / SECOND)
    document = _object(reply.body, reply.status)
    if document.get("status") != "success":
        raise NoAnswer(f"Prometheus answered {reply.status}: {document.get('error', 'no reason')}")
    if not reply.fine:
        raise NoAnswer(f"it answered {reply.status}")
    value = number_of(document.get("data"))
    verdict, reason = checks.judged(due.check, value)
    return verdict, value, reason


def number_of(data: Any) -> str:
    """Return the one number in the ``data`` of an answer of Prometheus; raises NoAnswer that says what came else."""
    kind = data.get("resultType") if isinstance(data, dict) else None
    result = data.get("result") if isinstance(data, dict) else None
    if kind == "vector" and isinstance(result, list):
        if len(result) != 1:
            raise NoAnswer(f"the query gave {len(result) or 'no'} series, not one number")
        result = result[0].get("value") if isinstance(result[0], dict) else None
    elif kind != "scalar":
        raise NoAnswer(f"the query gave {'a ' + kind if isinstance(kind, str) else 'nothing known'}, not one number")
    if isinstance(result, list) and len(result) == 2 and isinstance(result[1], str):
        return result[1]
    raise NoAnswer("the query gave something that is not one number")


def _webhook(due: Due) -> Answer:
    body = json.dumps(dict(due.facts)).encode()
    reply = ask(due.check.url, body, kind="application/json", seconds=due.check.timeout / SECOND)
    if not reply.fine:
        raise NoAnswer(f"it answered {reply.status}")
    document = _object(reply.body, reply.status)
    verdict, reason = document.get("verdict"), document.get("reason", "")
    if verdict not in ("pass", "fail", "wait"):
        raise NoAnswer(f'its verdict is {verdict!r}, not "pass", "fail" or "wait"')
    return CheckVerdict(verdict), "", reason if isinstance(reason, str) else ""


def _object(body: bytes, status: int) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise NoAnswer(f"it answered {status} with something that is no JSON object")
    return document
