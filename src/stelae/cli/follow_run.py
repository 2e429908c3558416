"""Follow a run to its end, across a restart of the controller, and say how it went.

Standard output gets what the program wrote there, and nothing else.
"""

from __future__ import annotations

import time

from stelae.cli.interrupted import Interrupted
from stelae.cli.screen import Screen
from stelae.cli.words import span
from stelae.controller.client import Client, Json
from stelae.domain.errors import Failed, Unreachable

PATIENCE = 30.0
"""How long the controller may be away while a run is followed, in seconds."""


def follow(client: Client, screen: Screen, environment: str, run: str) -> Json:
    """Print the output of *run* until it has ended, and return it. Ctrl-C has it end; a second one leaves it to that.
    Raises Unreachable when the controller stays away for PATIENCE seconds."""
    lines = _Lines(screen)
    asked = False
    lost_at = 0.0
    while True:
        try:
            return client.follow(
                "GET", "/v1/runs/watch", None, lines.show, environment=environment, run=run, skip=lines.count
            )
        except Unreachable:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > PATIENCE:
                raise
            time.sleep(0.2)
        except KeyboardInterrupt as error:
            if asked:
                raise Interrupted(f"interrupted; {run} is being ended", hint=f"see how: stelae show {run}") from error
            asked = True
            client.post("/v1/run-cancellations", {"environment": environment, "run": run})
            screen.aside(f"  {run} is being ended; once more to leave it")


def conclude(screen: Screen, ended: Json) -> int:
    """Say how the run went, and return the exit code; raises Failed when it did not succeed and a person reads."""
    screen.result(ended)
    if ended["outcome"] == "succeeded":
        screen.aside(f"  {ended['run']} done in {span(ended['ended_at'] - ended['requested_at'])}")
        return 0
    reason = f": {ended['reason']}" if ended["reason"] else ""
    if screen.as_json:
        return 1
    raise Failed(f"{ended['run']} {ended['outcome']}{reason}", hint=f"see: stelae show {ended['run']}")


class _Lines:
    """Prints lines of output, each once."""

    def __init__(self, screen: Screen) -> None:
        self.count = 0
        self._screen = screen

    def show(self, line: Json) -> None:
        self.count += 1
        if line["stream"] == "stderr":
            self._screen.aside(line["text"])
        else:
            self._screen.line(line["text"])
