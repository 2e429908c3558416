"""At rest: the machine holds exactly what the record says, and the record exactly what was asked for."""

from __future__ import annotations

from collections.abc import Iterator

from stelae.core import secrets, verification
from stelae.core.traffic import entry
from stelae.domain.observation import Phase
from stelae.domain.state import EnvironmentState, InstallationState
from stelae.testing import drifting, scaling
from stelae.testing.jobs import twice
from stelae.testing.machine import Machine, Site


def differences(state: InstallationState, machine: Machine) -> list[str]:
    """Return what is not as it must be when nothing is left to do, a phrase each; empty at rest."""
    found: list[str] = []
    for env in state.environments.values():
        found += [f"{env.id}: {what}" for what in _of(env, machine)]
    return found


def _of(env: EnvironmentState, machine: Machine) -> Iterator[str]:
    site = machine.site(env.id)
    if env.rollout is not None:
        yield f"{env.rollout.deployment} has not ended"
    if verification.wake(env, 0) is not None and not env.down and _healthy(env, machine) and _is_wanted(env):
        yield "its image is still being verified"
    if env.down and env.allocation.holdings:
        yield "it is down, and should still hold instances"
    if env.warm:
        yield f"{', '.join(env.warm)} is still warm"
    for name, item in secrets.wipeable(env):
        yield f"version {item.version} of {name} was revoked, is not needed, and is kept"
    if env.pending:
        yield f"actions {', '.join(env.pending)} have no outcome"
    for name in sorted(site.things.keys() ^ env.instances.keys()):
        yield f"{name} is only {'on the machine' if name in site.things else 'in the record'}"
    for name, instance in env.instances.items():
        if instance.exit is not None or instance.failed or instance.stopped_at is not None:
            yield f"{name} is over and still there"
    for run in env.runs.values():
        if not run.removed:
            yield f"run {run.id} is not over, or has left something"
    for name in twice(site):
        yield f"run {name} began twice"
    for name, thing in site.things.items():
        if thing.ended is not None:
            yield f"{name} has ended and is still there"
    if dict(env.table) != site.table:
        yield f"the traffic goes to {site.table}, the record says {dict(env.table)}"
    yield from drifting.differences(env, site, machine.now())
    yield from _holdings(env, machine, site)


def _is_wanted(env: EnvironmentState) -> bool:
    """True when instances of the stable release are wanted: a person may have scaled all of it to nothing."""
    stable = env.releases[env.stable] if env.stable else None
    return stable is not None and any(count and stable.process(name) for name, count in env.wanted.items())


def _healthy(env: EnvironmentState, machine: Machine) -> bool:
    stable = env.releases[env.stable] if env.stable else None
    behaviour = machine.behaviours.get(stable.image) if stable else None
    return behaviour is not None and behaviour.healthy


def _holdings(env: EnvironmentState, machine: Machine, site: Site) -> Iterator[str]:
    stable = env.releases[env.stable] if env.stable and not env.down else None
    behaviour = machine.behaviours.get(stable.image) if stable else None
    if behaviour is not None and not behaviour.healthy:
        return  # it never comes to rest; the laws hold all the same
    for name, thing in site.things.items():
        if stable is None or thing.release != stable.id:
            yield f"{name} still runs"
    for name, instance in env.instances.items():
        if instance.ready_at is None:
            yield f"{name} is not known to be ready"
    if stable is None:
        return
    yield from scaling.differences(env, site.requests.load)
    first = entry(stable)
    for process, count in env.wanted.items():
        running = [
            name
            for name, thing in site.things.items()
            if (thing.release, thing.process) == (stable.id, process) and thing.phase(machine.now()) is Phase.READY
        ]
        wanted = count if stable.process(process) is not None else 0
        if len(running) != wanted:
            yield f"{len(running)} of {wanted} {process} are ready"
        if first is not None and process == first.name and set(running) != set(site.table):
            yield f"the traffic goes to {sorted(site.table)}, not to {sorted(running)}"
