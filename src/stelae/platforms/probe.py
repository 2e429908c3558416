"""Readiness: asks instances over HTTP or TCP whether they can serve, and remembers the answers.

The answer of an instance is hostile input: of an HTTP answer only the status line is read, and no more than
``_MOST_BYTES`` are ever held.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.process import Health, Probe, Process
from stelae.domain.units import MILLISECOND, SECOND, Instant
from stelae.system.clock import now

_FIRST_PAUSE = 10 * MILLISECOND
_LONGER = 1.25  # so that readiness is seen at the latest a quarter of the time later that it took
_FAILURES = 3
_MOST_BYTES = 4096
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")


ProbeKey = tuple[EnvironmentId, InstanceId]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeState:
    """What is known of one instance. ``since`` is the start of its present unbroken time of being ready;
    ``ever`` is true when it was ready at any time; ``problem`` says in words why the last probe failed."""

    ready: bool = False
    ever: bool = False
    since: Instant | None = None
    problem: str = ""


class Prober:
    """Probes instances from the running event loop, one task each.

    The first probe is made at once. Until an instance is ready for the first time the pauses are 10 ms and then each
    a quarter longer, up to its interval; from then on the interval. It stops being ready after 3 failures in a row
    and is ready again after one success. *clock* gives microseconds since 1970.
    """

    def __init__(self, clock: Callable[[], Instant] = now) -> None:
        self._clock = clock
        self._states: dict[ProbeKey, ProbeState] = {}
        self._tasks: dict[ProbeKey, asyncio.Task[None]] = {}
        self._listeners: list[Callable[[ProbeKey], None]] = []

    def watch(self, key: ProbeKey, process: Process, address: str) -> None:
        """Probe the instance *key* of *process* at *address* until it is forgotten; one that is watched already
        is left as it is. A process without a port, or whose probe is ``running``, is ready at once."""
        if key in self._states:
            return
        self._states[key] = ProbeState()
        if process.health.probe is Probe.RUNNING or process.port is None:
            self._note(key, "", 0)
            return
        self._tasks[key] = asyncio.get_running_loop().create_task(
            self._watch(key, process.health, address, process.port), name=f"probe {key[1]}"
        )

    def forget(self, key: ProbeKey) -> None:
        """Stop probing *key* and drop what is known of it."""
        self._states.pop(key, None)
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    def state(self, key: ProbeKey) -> ProbeState:
        """Return what is known of *key*; nothing good of one that is not watched."""
        return self._states.get(key, ProbeState())

    def on_change(self, callback: Callable[[ProbeKey], None]) -> None:
        """Have *callback* called with the key, from the event loop, when an instance gets ready or stops being so,
        and when it was asked for the first time."""
        self._listeners.append(callback)

    async def close(self) -> None:
        """Stop probing everything and wait until that is so."""
        tasks = list(self._tasks.values())
        for key in list(self._states):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, key: ProbeKey, health: Health, address: str, port: int) -> None:
        pause, failures = _FIRST_PAUSE, 0
        while True:
            problem = await probe(health, address, port)
            failures = failures + 1 if problem else 0
            self._note(key, problem, failures)
            if self._states[key].ever:
                pause = health.interval
            await asyncio.sleep(min(pause, health.interval) / SECOND)
            pause = int(pause * _LONGER)

    def _note(self, key: ProbeKey, problem: str, failures: int) -> None:
        old = self._states[key]
        if not problem:
            new = ProbeState(ready=True, ever=True, since=old.since if old.ready else self._clock())
        elif old.ready and failures < _FAILURES:
            new = ProbeState(ready=True, ever=True, since=old.since, problem=problem)
        else:
            new = ProbeState(ever=old.ever, problem=problem)
        self._states[key] = new
        if new.ready != old.ready or old == ProbeState():
            for listener in self._listeners:
                listener(key)


async def probe(health: Health, address: str, port: int) -> str:
    """Ask once; return "" when the instance is ready, else what is wrong, in words. Never raises but to cancel."""
    seconds = health.timeout / SECOND
    transport: asyncio.Transport | None = None
    try:
        async with asyncio.timeout(seconds):
            loop = asyncio.get_running_loop()
            transport, asker = await loop.create_connection(_Asker, address, port)
            if health.probe is Probe.TCP:
                return ""
            asker.ask(health.path, port)
            return _judge(await asker.answer, health.path)
    except TimeoutError:
        return f"did not answer within {seconds:g} s"
    except ConnectionRefusedError:
        return f"nothing listens on port {port}"
    except OSError as error:
        return f"port {port} cannot be reached: {error.strerror or error}"
    finally:
        if transport is not None:
            transport.abort()  # closes at once; there is nothing left to send


def _judge(answer: bytes, path: str) -> str:
    status = _STATUS_LINE.match(answer)
    if status is None:
        return f"GET {path} was not answered in HTTP" if answer else f"GET {path} got no answer"
    code = int(status.group(1))
    return "" if 200 <= code < 400 else f"GET {path} answered {code}"


class _Asker(asyncio.Protocol):
    """One GET. ``answer`` gets what came first: a whole line, or what there was when that could not be."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, path: str, port: int) -> None:
        """Send the request. *path* comes from the spec, which takes no spaces and control characters."""
        assert self._transport is not None
        self._transport.write(
            f"GET {path or '/'} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: stelae-probe\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._received += data[:_MOST_BYTES]
        if b"\n" in self._received or len(self._received) >= _MOST_BYTES:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    def _finish(self) -> None:
        if not self.answer.done():
            self.answer.set_result(self._received)
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):  # it is closing
                self._transport.pause_reading()
