"""The controller's log: one line an event, for people; of what crashed where, and never the values that it had.

Left to itself, structlog prints every local variable of a traceback where ``rich`` is installed. Those may be
secrets, and printing them takes longer than what the controller does.
"""

from __future__ import annotations

import sys

import structlog


def configure() -> None:
    """Have everything that this process logs be written so, to its standard output."""
    colors = sys.stdout is not None and sys.stdout.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.StackInfoRenderer(),
            structlog.dev.set_exc_info,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
