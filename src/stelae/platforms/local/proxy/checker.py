"""Compares what HAProxy really does with what the router was told: used after every act in tests, and by doctor."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from anyio.to_thread import run_sync

from stelae.domain.allocation import InstanceId, Route
from stelae.domain.drift import Finding
from stelae.domain.environment import EnvironmentId
from stelae.platforms.local.proxy.router import HaproxyRouter
from stelae.platforms.port import RouteEntry, RouterView

log = structlog.get_logger(__name__)

DIFFERS = "proxy.differs"
"""The log's word for a difference; a test fails on it."""


def check(router: HaproxyRouter) -> list[str]:
    """Return the differences between the table, the files and every live worker, a sentence each; empty: none.

    Raises Unreachable when a worker does not answer.
    """
    return router.check()


class CheckedRouter:
    """A ``Router`` that compares the live configuration, the files and what was asked for after every act."""

    def __init__(self, router: HaproxyRouter) -> None:
        self._router = router

    async def route(
        self, environment: EnvironmentId, entries: Sequence[RouteEntry], hosts: Sequence[str],
        routes: Sequence[Route] = (),
    ) -> None:  # fmt: skip
        """See ``Router.route``."""
        await self._router.route(environment, entries, hosts, routes)
        table = (await self._router.observe(environment)).table
        led = {route.release for route in routes}
        asked = {entry.instance: entry.weight for entry in entries if entry.weight or entry.release in led}
        if dict(table) != asked:
            log.error(DIFFERS, environment=environment, asked=asked, live=dict(table))
        await self._check("route")

    async def observe(self, environment: EnvironmentId) -> RouterView:
        """See ``Router.observe``."""
        return await self._router.observe(environment)

    async def forget(self, environment: EnvironmentId, instance: InstanceId) -> None:
        """See ``Router.forget``."""
        await self._router.forget(environment, instance)
        await self._check("forget")

    async def inspect(self, environment: EnvironmentId, *, thorough: bool = False) -> tuple[Finding, ...]:
        """See ``Router.inspect``."""
        return await self._router.inspect(environment, thorough=thorough)

    async def _check(self, act: str) -> None:
        for sentence in await run_sync(check, self._router):
            log.error(DIFFERS, act=act, difference=sentence)
