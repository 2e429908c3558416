"""Ports for tests that run side by side."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

OURS = range(20_000, 32_000)
"""Below the ports that Linux gives to who asks for any (32768 and up): nothing takes one of these meanwhile."""


def free_port() -> int:
    """Return a loopback port on which nothing listens, drawn by lot: two tests at once hardly draw the same."""
    chance = random.SystemRandom()
    while True:
        port = chance.choice(OURS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
