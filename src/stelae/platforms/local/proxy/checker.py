"""Compares what HAProxy really does with what the router was told: used after every act in tests, and by doctor."""

from __future__ import annotations

from stelae.platforms.local.proxy.router import HaproxyRouter


def check(router: HaproxyRouter) -> list[str]:
    """Return the differences between the table, the files and every live worker, a sentence each; empty: none.

    Raises Unreachable when a worker does not answer.
    """
    return router.check()
