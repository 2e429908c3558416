"""The controller as a process: check the ledger, take over what runs, hold it, answer; end without a trace.

Ending the controller ends nothing else: instances, their monitors and the proxy go on, and the next
controller adopts them. Only where nothing runs, the proxy and the network go too.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog
from anyio import to_thread

from stelae import __version__
from stelae.controller import holding, log_lines
from stelae.controller.checks import Checker
from stelae.controller.loops import Loops
from stelae.controller.record import Record
from stelae.controller.recovery.place import finish
from stelae.controller.scope import end_scope, ensure_scope
from stelae.controller.server import refuse_second, serve
from stelae.controller.service import ControllerService
from stelae.controller.wiring import secrets_of, use_cases
from stelae.core.held import holds, is_local
from stelae.domain.errors import StelaeError
from stelae.domain.event import ControllerStarted
from stelae.domain.units import Instant
from stelae.images.disks import Disks
from stelae.images.layout import Layout
from stelae.images.roots import Roots
from stelae.ledger.lock import end_holder
from stelae.ledger.projection import Projections
from stelae.ledger.store import Ledger
from stelae.platforms.instances import InstancePlatform
from stelae.platforms.local.engine import LocalEngine
from stelae.platforms.local.fence import Fence
from stelae.platforms.local.proxy.checker import CheckedRouter
from stelae.platforms.local.proxy.launch import stop_supervisor
from stelae.platforms.local.proxy.router import HaproxyRouter
from stelae.platforms.port import Capability, Platform
from stelae.platforms.probe import Prober
from stelae.platforms.vm.engine import VmEngine
from stelae.platforms.vm.machines import Machines
from stelae.system import points
from stelae.system.clock import OnwardClock
from stelae.system.installation import Installation

log = structlog.get_logger(__name__)

STILL_MINE = 1.0
"""Seconds between two looks at whether another controller has taken over."""

LAST_SECONDS = 5.0
"""For so long a controller that ends waits for what its answers have told of: signatures of what was built."""


async def main(
    installation: Installation, *, ready: Callable[[], None] = lambda: None, take_over: bool = False
) -> None:
    """Run the controller of *installation* until SIGTERM or SIGINT; with *take_over* end one that runs first, also
    one that is paused.

    Raises Conflict when another controller runs, or has taken over; Failed when the ledger is not what it was.
    """
    log_lines.configure()
    points.arm()
    for folder in (installation.state, installation.run, installation.cache):
        folder.mkdir(parents=True, exist_ok=True)
    if take_over:
        ended = await to_thread.run_sync(lambda: end_holder(installation.ledger.with_suffix(".lock")))
        if ended is not None:
            log.warning("controller.ended_another", process=ended)
    if await to_thread.run_sync(finish, installation):
        log.warning("controller.ended_a_restore")
    # The first thing that happens: a record that was altered is not acted on.
    clock = OnwardClock()
    ledger = await to_thread.run_sync(lambda: Ledger.open(installation.ledger, clock=clock))
    await to_thread.run_sync(ledger.verify)
    clock.not_before(ledger.at)
    record = Record(ledger, Projections(installation.cache / "projections", ledger), clock.ahead)
    try:
        refuse_second(installation.socket)
        await _run(installation, record, clock, ready)
    finally:
        record.close()


async def _run(
    installation: Installation, record: Record, clock: Callable[[], Instant], ready: Callable[[], None]
) -> None:
    layout = Layout.open(installation.images)
    roots = Roots(layout, installation.layers, installation.mounts)
    parent = await to_thread.run_sync(lambda: ensure_scope(installation)) or ""
    secrets = secrets_of(installation, record)
    disks = Disks(layout, installation.cache / "disks")
    engine = LocalEngine(
        installation, roots, layout.config, cgroup_parent=parent, secrets=secrets.source,
        machines=Machines(installation, disks, layout.config),
    )  # fmt: skip
    router = HaproxyRouter(installation, cgroup=f"{parent}/proxy" if parent else "")
    await engine.ensure_network()
    await router.start()
    checked = CheckedRouter(router) if os.environ.get("STELAE_CHECK_PROXY") else router
    (started,) = await record.append([ControllerStarted(version=__version__, boot=_boot())])
    fence = Fence(installation.run / "fence", started.index)
    await to_thread.run_sync(fence.raise_)
    local = InstancePlatform(engine, checked, Prober(clock), clock, fence.held)

    def machines() -> Platform:
        lacks = (Capability.TERMINALS,)
        return InstancePlatform(VmEngine(engine), checked, Prober(clock), clock, fence.held, lacks)

    platform = holding.platforms(
        installation, record, local, layout, secrets.source, clock, fence.held, machines
    )  # fmt: skip
    group = parent or installation.cgroup
    service = use_cases(installation, record, platform, layout, roots, disks, clock, secrets, group=group)
    await _hold(installation, record, platform, clock, service, ready)
    await platform.close()
    await engine.close()
    record.check_mine()
    if not any(is_local(env) and holds(env) for env in record.state.environments.values()):
        await _leave_nothing(installation, engine, roots)
    log.info("controller.stopped", events=record.state.size)


async def _hold(
    installation: Installation, record: Record, platform: Platform, clock: Callable[[], Instant],
    service: ControllerService, ready: Callable[[], None],
) -> None:  # fmt: skip
    """Hold every environment, answer, and do what goes on beside that, until this controller has to end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        loops = Loops(record, platform, clock, group, service.policy, service.watches)
        loops.start()
        kept = (
            serve(service, installation, ready, service.settled),
            service.keep_clean(), service.keep_secrets(), service.keep_signing(),
            service.keep_telling(), service.keep_terminals(loops.wake),
            Checker(record, clock, loops.wake).keep_asking(),
            service.keep_publishing(),
            service.keep_inspecting(loops.wake), service.keep_indexing(),
        )  # fmt: skip
        beside = [group.create_task(each) for each in kept]
        log.info("controller.started", version=__version__, events=record.state.size)
        await _until_the_end(stop, record)
        for task in beside:
            task.cancel()
        loops.stop()
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_SECONDS):
            await service.settled()
    service.close()
    with suppress(StelaeError, OSError):  # what it watched is not claimed then
        await record.append_drafts(service.watches.ends, urgent=False)


async def _until_the_end(stop: asyncio.Event, record: Record) -> None:
    """Return when *stop* is set, or soon after another controller has taken over, also when nothing is to be done."""
    while not stop.is_set() and not record.replaced.is_set():
        with suppress(StelaeError, OSError):
            record.check_mine()
        with suppress(TimeoutError):
            async with asyncio.timeout(STILL_MINE):
                await stop.wait()


async def _leave_nothing(installation: Installation, engine: LocalEngine, roots: Roots) -> None:
    """Nothing is held (``stelae down``), so the proxy, the network and the mounts have no use either."""
    await to_thread.run_sync(lambda: stop_supervisor(installation))
    await to_thread.run_sync(lambda: end_scope(installation))
    await engine.teardown()
    await to_thread.run_sync(lambda: roots.unmount_unused(()))


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
