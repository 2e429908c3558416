"""Environment, rights, limits and control groups of an instance, beside its bundle and its release.

What a program may do to itself is no difference: to lower its limits, to move soft ones below hard ones, to give up
rights, to make itself more likely to be ended, to go to another folder, and to write over its arguments and its
environment, as programs do to set their title. So the environment is compared until it was right once, and only while
the arguments are those of the bundle. Nothing here tells a value of the environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

from stelae.domain.drift import Drift, Finding
from stelae.platforms.local.facts import Facts, cgroups_in, limits_in, namespaces_of, read, root_of
from stelae.platforms.local.inspect.kernel import mount_id
from stelae.platforms.local.inspect.scene import Scene
from stelae.platforms.local.launched import sha256
from stelae.platforms.local.stamp import Stamp, stamp_of

_RIGHTS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_FILTERED = "2"  # SECCOMP_MODE_FILTER
_UNLIMITED = "unlimited"


@dataclass(slots=True)
class _Seen:
    bundle: Stamp | None = None
    altered: bool = False
    environment: bool = False
    """The environment was right once."""
    from_release: tuple[Finding, ...] | None = None
    filters: int = 0


def check(scene: Scene) -> Iterator[Finding]:
    """Yield the settings that are not those of the launch; raises OSError when the instance has ended."""
    seen = scene.memory.keep(_Seen, _Seen)
    if seen.from_release is None:
        seen.from_release = (*scene.form.against(scene), *_limits_and_bundle(scene))
    yield from seen.from_release
    yield from _bundle_file(scene, seen)
    rights = list(_rights(scene, fields_in(scene.proc("status")), seen))
    if rights and mount_id(f"/proc/{scene.process.pid}/exe") == mount_id(f"/proc/{scene.process.pid}/root"):
        yield from rights  # until it has become the program, it is the runtime, which gives them up last
    yield from _surroundings(scene)
    yield from _control_groups(scene)
    if not seen.environment:
        names, seen.environment = changed_in(
            scene.proc("environ"), scene.proc("cmdline"), scene.bundle["process"]["env"],
            scene.bundle["process"]["args"], scene.spec.release.secret_env,
        )  # fmt: skip
        if names:
            yield scene.finding(Drift.SETTINGS, f"other environment variables than its release's: {', '.join(names)}")


def fields_in(status: bytes) -> dict[str, str]:
    """Return the fields of /proc/PID/status. A program names itself as it likes: with any bytes but a line's end."""
    lines = status.decode("utf-8", "replace").split("\n")
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def against_release(scene: Scene) -> Iterator[Finding]:
    """Yield what the bundle of a container has otherwise than the release: the words that every Stelae gives it."""
    process, wanted = scene.bundle["process"], scene.spec.process
    resources = scene.bundle["linux"]["resources"]
    if tuple(process["args"]) != wanted.command:
        yield scene.finding(Drift.SETTINGS, "it was launched with other arguments than its release's")
    if resources["memory"]["limit"] != wanted.memory or resources["pids"]["limit"] != wanted.pids:
        yield scene.finding(Drift.SETTINGS, "it was launched with other limits than its release's")
    given = dict(item.partition("=")[::2] for item in process["env"])
    own = scene.spec.release.settings
    names = sorted(name for name in own if name not in scene.spec.release.secret_env and given.get(name) != own[name])
    names = [name for name in names if not _is_own(name)]
    if names:
        what = f"it was launched with other settings than its release's: {', '.join(names)}"
        yield scene.finding(Drift.SETTINGS, what)


def _limits_and_bundle(scene: Scene) -> Iterator[Finding]:
    limited = limits_of(scene.bundle["linux"]["resources"])
    launched = {file.rpartition("/")[2]: content.strip() for file, content in scene.launched.limits.items()}
    others = sorted(name for name, limit in limited.items() if launched.get(name, limit) != limit)
    if others:
        evidence = [f"{name} is {launched[name]}, not {limited[name]}" for name in others]
        what = f"its control group was made with other limits: {', '.join(others)}"
        yield scene.finding(Drift.SETTINGS, what, *evidence)


def limits_of(resources: Mapping[str, Any]) -> dict[str, str]:
    """Return what the files of a control group hold that has these *resources* of a bundle, on cgroup v1 and v2."""
    memory = resources["memory"]["limit"] // PAGESIZE * PAGESIZE
    found = {"memory.max": memory, "memory.limit_in_bytes": memory, "pids.max": resources["pids"]["limit"]}
    if resources["memory"].get("swap") == resources["memory"]["limit"]:
        found |= {"memory.swap.max": 0, "memory.memsw.limit_in_bytes": memory}
    texts = {name: str(limit) for name, limit in found.items()}
    if cpu := resources.get("cpu"):
        quota, period = cpu["quota"], cpu["period"]
        texts |= {"cpu.max": f"{quota} {period}", "cpu.cfs_quota_us": f"{quota}", "cpu.cfs_period_us": f"{period}"}
    return texts


def _is_own(name: str) -> bool:
    """True for a variable that Stelae sets whatever a release says."""
    return name == "PORT" or name.startswith("STELAE_")


def _bundle_file(scene: Scene, seen: _Seen) -> Iterator[Finding]:
    path = f"{scene.place.folder}/config.json"
    stamp = stamp_of(path)
    if stamp is None or stamp != seen.bundle:
        seen.bundle = stamp
        seen.altered = stamp is None or sha256(read(path)) != scene.launched.bundle
    if seen.altered:
        yield scene.finding(Drift.SETTINGS, "its bundle was changed after the launch", path)


def _rights(scene: Scene, status: Mapping[str, str], seen: _Seen) -> Iterator[Finding]:
    process = scene.bundle["process"]
    uid, gid = str(process["user"]["uid"]), str(process["user"]["gid"])
    if set(status["Uid"].split()) != {uid} or set(status["Gid"].split()) != {gid}:
        evidence = f"Uid {status['Uid']}, Gid {status['Gid']}; launched as {uid}:{gid}"
        yield scene.finding(Drift.SETTINGS, "its first process is another user's", evidence)
    groups = {gid, *map(str, process["user"].get("additionalGids", ()))}
    if more := set(status["Groups"].split()) - groups:
        evidence = f"also in {' '.join(sorted(more))}"
        yield scene.finding(Drift.SETTINGS, "its first process is in other groups", evidence)
    if any(int(status[name], 16) for name in _RIGHTS):  # a bundle gives none
        evidence = ", ".join(f"{name} {status[name]}" for name in _RIGHTS)
        yield scene.finding(Drift.SETTINGS, "its first process has capabilities", evidence)
    if process["noNewPrivileges"] and status["NoNewPrivs"] != "1":
        yield scene.finding(Drift.SETTINGS, "its first process may gain rights (NoNewPrivs)")
    filters = int(status.get("Seccomp_filters", "1"))
    if "seccomp" in scene.bundle["linux"] and (status["Seccomp"] != _FILTERED or filters < max(seen.filters, 1)):
        evidence = f"mode {status['Seccomp']}, {filters} filters"
        yield scene.finding(Drift.SETTINGS, "its first process is without its system call filter", evidence)
    seen.filters = max(seen.filters, filters)


def _surroundings(scene: Scene) -> Iterator[Finding]:
    pid, before = scene.process.pid, scene.launched.facts
    now = Facts(
        mounts=(), namespaces=namespaces_of(pid), cgroups=cgroups_in(scene.proc("cgroup")),
        limits=limits_in(scene.proc("limits")), root=root_of(pid), oom_score=int(scene.proc("oom_score_adj")),
    )  # fmt: skip
    for what, evidence in compare(before, now, scene.cgroups.path(scene.place.cid)):
        yield scene.finding(Drift.SETTINGS, what, evidence)
    if stamp_of(str(scene.place.netns)) is None or Path(scene.place.netns).stat().st_ino != now.namespaces["net"]:
        what = "its network namespace is not the one at its place"
        yield scene.finding(Drift.SETTINGS, what, str(scene.place.netns))


def compare(before: Facts, now: Facts, group: str) -> Iterator[tuple[str, str]]:
    """Yield each difference that a program cannot have made of itself, and its evidence. *group* ends the path of its
    control group in each hierarchy that the runtime put it into."""
    for name, inode in before.namespaces.items():
        if now.namespaces[name] != inode:
            yield f"it is in another namespace: {name}", f"was {inode}, is {now.namespaces[name]}"
    for hierarchy, path in before.cgroups.items():
        if path.endswith(group) and now.cgroups.get(hierarchy, path) != path:
            named = hierarchy or "v2"
            yield f"it was moved to another control group ({named})", f"was {path}, is {now.cgroups[hierarchy]}"
    for name, limit in before.limits.items():
        if _more(now.limits.get(name, limit), limit):
            yield f"its hard limit was raised: {name}", f"was {limit}, is {now.limits[name]}"
    if now.root != before.root:
        yield "its root is another one", f"was {before.root}, is {now.root}"
    if now.oom_score < before.oom_score:
        yield "it is ended later than others when memory is short", f"was {before.oom_score}, is {now.oom_score}"


def _more(limit: str, than: str) -> bool:
    if than == _UNLIMITED:
        return False
    return limit == _UNLIMITED or int(limit) > int(than)


def _control_groups(scene: Scene) -> Iterator[Finding]:
    for file, before in scene.launched.limits.items():
        now = read(file).decode()
        if now != before:
            name = file.rpartition("/")[2]
            evidence = f"was {before.strip()[:200]}", f"is {now.strip()[:200]}"
            yield scene.finding(Drift.SETTINGS, f"the limit {name} of its control group was changed", *evidence)


def changed_in(
    environ: bytes, cmdline: bytes, given: Sequence[str], args: Sequence[str], secret: Sequence[str]
) -> tuple[list[str], bool]:
    """Return the names of variables with another value than they were *given*, and whether all were right.

    Of a program that wrote over its arguments, or became another one, nothing can be told. A variable that is gone or
    empty was wiped by the program, as careful ones do, and one that came to be is its own affair too. The values of
    *secret* variables are not known here: their names have to be there.
    """
    if cmdline.rstrip(b"\0").split(b"\0") != [word.encode() for word in args]:
        return [], False
    found = dict(item.partition(b"=")[::2] for item in environ.split(b"\0"))
    wanted = dict(item.partition("=")[::2] for item in given)
    values = {name: found.get(name.encode(), b"").decode("utf-8", "replace") for name in wanted}
    changed = sorted(name for name, value in wanted.items() if values[name] not in ("", value))
    complete = values == wanted and all(name.encode() in found for name in secret)
    return changed, complete
