"""Plans: what a deployment or a rollback would change, and whether that still holds when it is asked for.

Planning records nothing, not even a refusal. A plan has an index: a request that names it is carried out only while
nothing that matters for the environment was recorded since.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from anyio import to_thread

from stelae.attest.verification import Verified
from stelae.controller import abilities, references, views
from stelae.controller.admission import Admission
from stelae.controller.artifacts import Artifacts
from stelae.controller.changes import Changes
from stelae.controller.environments import Environments
from stelae.controller.policy import Policy
from stelae.controller.record import Record
from stelae.controller.run_views import crossed, job_view
from stelae.controller.sentences import sentence
from stelae.core import jobs, memory, secrets, trust
from stelae.core import request as asking
from stelae.core.evolve import revises
from stelae.core.held import is_local
from stelae.core.plan import Plan, plan, ratio
from stelae.domain.allocation import Allocation
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Conflict, Failed, InvalidInput, StelaeError
from stelae.domain.event import Recorded
from stelae.domain.image import Source
from stelae.domain.release import Release, ReleaseId, short_release
from stelae.domain.state import BuiltImage, DeploymentKind, EnvironmentState, InstallationState
from stelae.domain.strategy import Gate, StrategyKind
from stelae.domain.units import Instant
from stelae.platforms.port import Capability
from stelae.spec import platform
from stelae.system import memory as machine

Json = dict[str, Any]

TOLD = 5
"""How many of the events that made a plan stale are told, the newest ones."""

FURTHEST = 100_000
"""How many events of the record are looked through for them: reading takes time, and a plan may be years old."""

_PAGE = 1000


class Stale(Conflict):
    """An environment is not as it was when the plan *index* was made; ``explained`` says what happened."""

    def __init__(self, env: EnvironmentState, index: int) -> None:
        _, _, name = env.id.partition("/")
        super().__init__(
            f"plan {index} of {env.id} is stale" if index < env.revision else f"{env.id} has no plan {index}",
            hint=f"nothing was done; look again: stelae plan {name}",
        )
        self.environment = env.id
        self.index = index


def fresh(env: EnvironmentState, index: int | None) -> None:
    """Raise Stale when something that matters for *env* was recorded since the plan *index*; None is no plan."""
    if index is not None and index != env.revision:
        raise Stale(env, index)


async def explained(record: Record, error: StelaeError) -> StelaeError:
    """Return *error*; a stale plan's with what happened since, who did it and when."""
    if not isinstance(error, Stale):
        return error
    stale = error

    def read() -> list[Recorded]:
        found: list[Recorded] = []
        end = record.ledger.size
        low = max(stale.index + 1, end - FURTHEST)
        while end > low and len(found) <= TOLD:
            start = max(low, end - _PAGE)
            page = record.ledger.read(start, end)
            found = [item for item in page if item.environment == stale.environment and revises(item.event)] + found
            end = start
        return found

    found = await to_thread.run_sync(read)
    if not found:
        return stale
    newest = found[-1]
    message = f"{stale.message}: since then {newest.actor}: {sentence(newest.event)}"
    more = ["and more before"] if len(found) > TOLD else []
    lines = [f"{_time(item.at)}  {item.actor}: {sentence(item.event)}" for item in found[-TOLD:]]
    return Conflict(message, hint=stale.hint, details=(*more, *lines))


def check_memory(state: InstallationState, env: EnvironmentState, found: Plan, total: int) -> None:
    """Raise Refused when the virtual machines of *env* do not fit into the *total* memory of this machine on the way
    that *found* is."""
    releases = {**env.releases, found.release.id: found.release}
    peak = memory.peak((*found.steps, found.after), releases)
    memory.admit(env, peak, memory.of_machines(env, state.environments.values()), total)


class Plans:
    """Answers what would change."""

    def __init__(
        self, record: Record, environments: Environments, clock: Callable[[], Instant],
        admission: Admission | None = None, changes: Changes | None = None,
        able: Callable[[EnvironmentState], Collection[Capability]] = lambda _: frozenset(Capability),
        unmeasured: Callable[[EnvironmentState], str] = lambda _: "",
    ) -> None:  # fmt: skip
        self._record = record
        self._changes = changes
        self._able = able
        self._unmeasured = unmeasured
        self._admission = admission or Admission(record, None)
        self._policy = Policy(record, self._admission, clock)
        self._artifacts = Artifacts(record, self._admission, clock)
        self._environments = environments
        self._clock = clock

    async def plan(self, request: Json) -> Json:
        """See ``Service.plan``."""
        state = self._record.state
        env = references.environment(state, request["environment"])
        rollback = request["rollback"]
        release = _back(state, env, request) if rollback else await self._asked(env, request)
        strategy = asking.quick(env) if rollback else asking.strategy(env, request["strategy"])
        abilities.check(strategy, release, self._able(env))
        kind = DeploymentKind.ROLLBACK if rollback else DeploymentKind.DEPLOY
        found = plan(env, release, strategy, kind, self._clock())
        word = None if rollback else await self._admission.vouched(env, release.artifact)
        rules = self._rules(env, release, word, request, found)
        refusals = [*_broken(rules), *await self._admission.unproven(env, release)]
        return {
            **plan_view(state, found, request["commit"]),
            "promote_from": asking.config(env).promote_from,
            "policy": None if rollback else self._policy.verdict(env, release.artifact, word),
            "hosts": list(asking.config(env).routed_hosts),
            **platform.rendered(asking.config(env).platform),
            "rollout": views.rollout_view(env, env.rollout) if env.rollout else None,
            "proofs": await self._proofs(env, release),
            "refusal": _told(refusals[0]) if refusals else None,
            "refusals": [_told(refusal) for refusal in refusals],
            "warnings": [
                *await self._environments.warnings(asking.config(env)),
                *filter(None, [self._unmeasured(env)]),
            ],
            "spec": await self._spec(env.id, request["spec"]),
            "changes": await self._between(found),
            "memory": self._memory(env, found),
            "jobs": [] if rollback else [job_view(job) for job in jobs.before_traffic(release)],
            "irreversible": crossed(jobs.crossed(env, release.image)),
        }

    async def _asked(self, env: EnvironmentState, request: Json) -> Release:
        """Return the release that *request* names, of the disk that a deployment would take where machines boot one;
        to plan it none is made, because that would be recorded."""
        release = asked_release(self._record.state, env, request)
        return release if request["release"] else await self._artifacts.release_of(env, release.image)

    async def _between(self, found: Plan) -> Json | None:
        """What is another inside the image; None where it is the same, where there was none, or it cannot be told."""
        old, new = found.previous, found.release
        if self._changes is None or old is None or old.image == new.image:
            return None
        return await self._changes.between(old.image, new.image)

    def _memory(self, env: EnvironmentState, found: Plan) -> Json:
        """What the limits of all instances come to at the most, beside what else this machine may have to hold."""
        releases = {**env.releases, found.release.id: found.release}
        return {
            "needed": memory.peak((*found.steps, found.after), releases),
            "others": memory.of_others(env, self._record.state.environments.values()) if is_local(env) else 0,
            "machine": machine.total() if is_local(env) else None,
        }

    def _rules(
        self, env: EnvironmentState, release: Release, word: Verified | None, request: Json, found: Plan
    ) -> Iterator[asking.Rule]:
        """What a deployment or a rollback would be refused by now; proofs of the image come beside it."""
        if request["rollback"]:
            yield partial(trust.admit_release, self._record.state, release)
            yield partial(secrets.admit, env, release)
            return
        yield from self._policy.rules(env, release, {}, word)
        yield partial(check_memory, self._record.state, env, found, machine.total())
        if not request["supersede"]:
            yield partial(asking.free, env)
        yield self._check_room

    def _check_room(self) -> None:
        if not self._record.ledger.room():
            raise Failed("the disk is nearly full", hint="make room: stelae gc")

    async def _proofs(self, env: EnvironmentState, release: Release) -> list[Json]:
        """What *env* requires to be proven, and whether the image of *release* proves it now."""
        found = await self._admission.lacking(env, release)
        return [{"requirement": need.value, "ok": not why, "why": why} for need, why in found.items()]

    async def _spec(self, environment: EnvironmentId, spec: str) -> list[Json]:
        """What applying *spec* would change in *environment*."""
        if not spec:
            return []
        _, _, name = environment.partition("/")
        request = {"spec": spec, "dry_run": True, "environment": name}
        changes = (await self._environments.apply("", request))["changes"]
        if any(change["environment"] != environment for change in changes):
            raise InvalidInput(f"this stelae.toml is not of the app of {environment}")
        return [{key: change[key] for key in ("path", "old", "new")} for change in changes]


def _broken(rules: Iterable[asking.Rule]) -> Iterator[StelaeError]:
    """Yield all that *rules* raise."""
    for rule in rules:
        try:
            rule()
        except StelaeError as error:
            yield error


def plan_view(state: InstallationState, found: Plan, commit: str = "") -> Json:
    """Return *found* as a JSON value; settings by name only. *commit* is that which the image was asked for by."""
    return {
        "environment": found.environment,
        "index": found.index,
        "kind": found.kind,
        "from": _end(state, found.previous) if found.previous else None,
        "to": _end(state, found.release, commit),
        "processes": {
            name: {"now": count.now, "then": count.then, **_limits(state, found, name)}
            for name, count in found.counts.items()
        },
        "settings": [{"name": name, "change": change} for name, change in found.settings.items()],
        "secret_env": [{"name": name, "change": change} for name, change in found.secret_env.items()],
        "secrets": [
            {"name": name, "old": old, "new": new}
            for name, (old, new) in secrets.differences(found.previous, found.release).items()
        ],
        "strategy": found.strategy.kind,
        "steps": [_step(held, _ratio(state, found, held)) for held in found.steps],
        "after": _step(found.after),
        "gates": [_gate(gate) for gate in found.gates],
        "warm": dict(found.warm),
        "nothing": found.nothing,
    }


def _limits(state: InstallationState, found: Plan, process: str) -> Json:
    """Between which numbers the environment scales *process*."""
    env = state.environments.get(found.environment)
    scaling = env.config.scaling.get(process) if env is not None and env.config is not None else None
    return {"min": scaling.least if scaling else None, "max": scaling.most if scaling else None}


def _ratio(state: InstallationState, found: Plan, held: Allocation) -> Mapping[ReleaseId, int]:
    """The shares of a canary's step where the platform gives no exact ones."""
    env = state.environments.get(found.environment)
    if env is None or asking.config(env).platform.exact or found.strategy.kind is not StrategyKind.CANARY:
        return {}
    return ratio(held, {**env.releases, found.release.id: found.release})


def _step(held: Allocation, by_ratio: Mapping[ReleaseId, int] | None = None) -> Json:
    return {
        "holds": [
            {"release": item.release, "process": item.process, "serving": item.serving, "warm": item.warm}
            for item in held.holdings
        ],
        "traffic": dict(held.weights),
        "ratio": dict(by_ratio or {}),
    }


def _gate(gate: Gate) -> Json:
    return {"soak": gate.soak, "manual": gate.manual, "job": gate.job, "checks": list(gate.checks)}


def _end(state: InstallationState, release: Release, commit: str = "") -> Json:
    """One end of the way: a release, its image, and the commit that this was built from."""
    built = state.images.get(release.image)
    sources = built.sources if built else ()
    source = next((item for item in sources if item.commit == commit), sources[-1] if sources else Source(commit=""))
    return {
        "release": release.id, "image": release.image, "disk": release.disk or "", "commit": source.commit,
        "subject": source.subject,
    }  # fmt: skip


def asked_release(state: InstallationState, env: EnvironmentState, request: Json) -> Release:
    """Return the release that *request* names: itself, or an image's, or that of the image of a commit; raises
    InvalidInput."""
    named = [name for name in ("image", "release", "commit") if request[name]]
    if len(named) > 1:
        raise InvalidInput(f"give only one of {' and '.join(named)}", where="request")
    if request["release"]:
        return references.release(env, request["release"])
    if request["commit"]:
        return asking.release_of(env, _built(state, env, request).image)
    if not request["image"]:
        raise InvalidInput("no image, release or commit is named", hint="name one: --image DIGEST or --release ID")
    return asking.release_of(env, references.image(state, request["image"]).image)


def _built(state: InstallationState, env: EnvironmentState, request: Json) -> BuiltImage:
    """The image that was built last of a commit; to plan it is not built, because that would be recorded."""
    commit, path, app = request["commit"], request["path"], asking.config(env).app
    found = [
        built
        for built in state.images.values()
        if built.image.app == app and any((item.commit, item.path) == (commit, path) for item in built.sources)
    ]
    if not found:
        raise InvalidInput(
            f"no image of {app} was built from commit {commit[:7]}", hint="build it first: stelae build"
        )
    return max(found, key=lambda built: built.last_built_at)


def way_back(state: InstallationState, env: EnvironmentState, to: str) -> Release:
    """Return the release that a rollback of *env* goes to: *to*, which must have served there, or else the last good
    one that was not revoked."""
    if not to:
        return asking.last_good(env, trust.banned(state))
    release = references.release(env, to)
    asking.served(env, release)
    return release


def passed_over(state: InstallationState, env: EnvironmentState, release: Release) -> str:
    """Return what a rollback to *release* says of a later one that it did not go to, because that was revoked."""
    wanted = env.releases[asking.ways_back(env)[0]]
    if wanted.id == release.id:
        return ""
    why = trust.of_release(state, wanted) or secrets.revocation(env, wanted)
    return f"{short_release(wanted.id)} is passed over: {why}"


def _back(state: InstallationState, env: EnvironmentState, request: Json) -> Release:
    if request["image"] or request["commit"] or request["strategy"] or request["supersede"]:
        raise InvalidInput("a rollback takes a release, and nothing else", where="request")
    return way_back(state, env, request["release"])


def _told(error: StelaeError) -> Json:
    return {"kind": error.kind, "message": str(error), "hint": error.hint, "exit": error.exit_code}


def _time(at: Instant) -> str:
    return datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
