"""Attack each instance of prey/testing, of the Stelae that is installed on this machine.

Run in the machine beside tests.real: each attack must be found as what it is, on the instance that it was done to and
on no other, and each instance replaced.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.real.attacks import ATTACKS, happened, running

from stelae.controller.client import Client
from stelae.domain.environment import EnvironmentId
from stelae.system.installation import Installation

SECONDS = 300


class Installed:
    """The Stelae of this machine (``tests.real.attacks.Prey``)."""

    environment = EnvironmentId("prey/testing")
    installation = Installation()
    client = Client(installation.socket)

    def until(self, what: str, condition: Callable[[], object]) -> None:
        """Wait until *condition* holds."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}; {happened(self, 'drift.found')}"
            time.sleep(0.5)


def main() -> None:
    """Do it, and say what was found."""
    prey = Installed()
    victims = dict(zip(running(prey), ATTACKS, strict=True))
    assert not happened(prey, "drift.found"), "something was found before anything was done"
    for victim, attack in victims.items():
        ATTACKS[attack][1](prey, victim)
    wanted = {victim: f"{victim} drifted ({ATTACKS[attack][0]}): " for victim, attack in victims.items()}

    def texts() -> list[str]:
        return [str(item["text"]) for item in happened(prey, "drift.found")]

    for victim, attack in victims.items():
        prey.until(attack, lambda said=wanted[victim]: any(said in text for text in texts()))
    prey.until("all are replaced", lambda: len(running(prey)) == len(victims) and not victims.keys() & running(prey))
    for text in texts():  # perhaps two of one attack: the program that enters, and the one that it starts
        print(text)
        assert text.startswith(tuple(wanted.values())), "something else was found too"


if __name__ == "__main__":
    main()
