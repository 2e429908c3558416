"""What people do in random lives, whatever holds the environment."""

from __future__ import annotations

import random

from stelae.domain import event as ev
from stelae.domain.state import DeploymentKind, Outcome, Phase
from stelae.testing.set_world import SetWorld
from stelae.testing.world import World
from tests.unit.core.fixtures import release


def by_a_person(made: World | SetWorld, chance: random.Random, what: int) -> None:
    """Deploy (0), scale (1), abort (2) or roll back (3), where that can be asked for."""
    if what == 0:
        made.request(release(f"v{chance.randrange(6)}"))
    elif what == 1:
        made.record(ev.Scaled(process=chance.choice(["web", "worker"]), count=chance.randrange(6)))
    elif what == 2 and made.env.rollout is not None and made.env.rollout.phase is Phase.FORWARD:
        name = made.env.rollout.deployment
        made.record(ev.RolloutReverting(deployment=name, ending=Outcome.CANCELLED, reason="aborted"))
    elif what == 3 and made.env.stables:
        made.request(made.env.releases[chance.choice(made.env.stables)], kind=DeploymentKind.ROLLBACK)
