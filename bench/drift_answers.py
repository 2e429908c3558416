"""How soon an attacked instance is found and replaced, and what that costs the requests.

``section()`` is the table: each attack of ``tests.real.attacks`` on an instance of a whole machine under load.

Run as ``python -m bench.drift_answers``, as root.
"""

from __future__ import annotations

import os

from bench.figure import Row, Section
from tests.real.attacks import ATTACKS, attacked, running
from tests.real.machine import Machine
from tests.real.test_main_job import HOST, configure

from stelae.testing.load import Load

FOUND, REPLACED = 5_000, 10_000
"""The goals, in milliseconds."""

RATE = 100

INSTANCES = 6
"""As many as there are attacks: what drifted counts for ten minutes, and more than all would be a storm."""


def measure() -> tuple[dict[str, tuple[float, float]], int, int]:
    """Return after how many milliseconds each attack was found and the instance replaced, how many requests were sent
    meanwhile, and those that failed. Each attack is on another release: what drifts again is replaced more slowly.
    """
    took: dict[str, tuple[float, float]] = {}
    with Machine(checked=False) as machine:
        machine.use().start()
        configure(machine, "rolling", web=INSTANCES, more='drift_storm = "100%"\n')
        machine.version("0")
        machine.cli("deploy", "testing")
        with Load("127.0.0.1", machine.installation.http_port, host=HOST, rate=RATE) as load:
            for number, attack in enumerate(ATTACKS, 1):
                machine.version(str(number))
                machine.cli("deploy", "testing")
                machine.until("the old ones have gone", lambda: len(running(machine)) == INSTANCES)
                found, replaced = attacked(machine, running(machine)[0], attack)
                took[attack] = (found * 1000, replaced * 1000)
                machine.at_rest()
            result = load.stop()
    return took, result.sent, len(result.failures)


def section() -> Section:
    """Measure, and return the table."""
    took, requests, failed = measure()
    rows = [
        Row(name=f"{attack}: {what}", samples=[samples[place]], goal=goal)
        for attack, samples in took.items()
        for place, (what, goal) in enumerate((("found", FOUND), ("replaced", REPLACED)))
    ]
    rows.append(Row(name=f"failed requests, of {requests}", samples=[failed], goal=0, unit="requests"))
    text = (
        f"One of {INSTANCES} instances of the example is attacked from outside, under {RATE} requests a second. Most "
        "attacks are found by a sweep, of which there is one every 5 seconds."
    )
    return Section(title="Drift: found and replaced", text=text, rows=rows, ratios=False)


def main() -> None:
    """Measure and print."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    print(section().markdown())


if __name__ == "__main__":
    main()
