"""What the form of a platform cannot say: which keys go with which kind, and what is asked of it in vain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stelae.domain.platform import PlatformKind
from stelae.spec.places import Table, table_at
from stelae.spec.problem import Path, Problem
from stelae.spec.refused import HOST_NAME
from stelae.spec.structure import needed

_NEEDED = ("namespace", "registry")
_ROUTED = ("preview", "match")
_HYPHEN = "a name that ends in a hyphen is no label on a cluster; take another"
_NO_DISK = "a virtual machine boots a disk, so the app needs [disk] (docs/disks.md)"
_COUNTED = "nobody counts requests on this platform; "


def check(whole: Table, sound: Table) -> Iterator[Problem]:
    """Yield what is wrong between a platform and the rest of its environment."""
    clustered = False
    for name in table_at(sound, "env"):
        here: Path = ("env", name)
        environment = table_at(sound, "env", name)
        given, written = table_at(environment, "platform"), table_at(whole, "env", name, "platform")
        kind = _kind(environment)
        if kind == PlatformKind.VM and "disk" not in whole:
            yield Problem(path=(*here, "platform"), text=_NO_DISK)
        if kind is not None:
            yield from _other_form(here, sound, kind, environment.get("promote_from"))
        if kind in (PlatformKind.LOCAL, PlatformKind.VM):
            text = f'only where kind is "{PlatformKind.KUBERNETES}"'
            yield from (Problem(path=(*here, "platform", key), text=text) for key in given if key != "kind")
        elif kind == PlatformKind.KUBERNETES:
            clustered = True
            if name.endswith("-"):
                yield Problem(path=here, text=_HYPHEN)
            for key in _NEEDED:
                if key not in written:
                    path = (*here, "platform", key)
                    yield Problem(path=path, text=f"missing; expected {needed(path)}")
            yield from _cluster(here, environment, routed="gateway" in written)
    if clustered:
        yield from _labels(sound)


def _kind(environment: Table) -> object:
    """What the platform's kind is said to be, None where it is not known."""
    said = environment.get("platform", PlatformKind.LOCAL.value)
    return said.get("kind") if isinstance(said, dict) else said


def _other_form(here: Path, sound: Table, kind: object, origin: object) -> Iterator[Problem]:
    """What is verified as a disk says nothing of the image that a container runs, and the other way round."""
    if not isinstance(origin, str) or origin not in table_at(sound, "env"):
        return
    there = _kind(table_at(sound, "env", origin))
    if there is not None and (there == PlatformKind.VM) is not (kind == PlatformKind.VM):
        text = f"{origin} verifies disks, and no machine boots here; name an environment that runs images"
        if kind == PlatformKind.VM:
            text = f"{origin} verifies images, and machines boot disks; name an environment of virtual machines"
        yield Problem(path=(*here, "promote_from"), text=text)


def _labels(sound: Table) -> Iterator[Problem]:
    """The names that are labels of all that is on a cluster."""
    if table_at(sound, "app").get("name", "").endswith("-"):
        yield Problem(path=("app", "name"), text=_HYPHEN)
    for name in table_at(sound, "process"):
        if name.endswith("-"):
            yield Problem(path=("process", name), text=_HYPHEN)


def _cluster(here: Path, environment: Table, *, routed: bool) -> Iterator[Problem]:
    """What a cluster does not do."""
    for process, count in table_at(environment, "processes").items():
        if isinstance(count, Mapping) and "target_rps" in count:
            path = (*here, "processes", process, "target_rps")
            yield Problem(path=path, text=f"{_COUNTED}take target_cpu")
    for setting, value in table_at(environment, "settings").items():
        if HOST_NAME in value:
            text = f"{HOST_NAME} is a name on the controller's machine, and no instance on a cluster knows it"
            yield Problem(path=(*here, "settings", setting), text=text)
    strategy = table_at(environment, "strategy")
    if "abort_on" in strategy:
        yield Problem(path=(*here, "strategy", "abort_on"), text=f"{_COUNTED}ask who does by checks")
    if strategy.get("sticky"):
        text = "no Gateway keeps each user on one release: the Gateway API has no word for it"
        yield Problem(path=(*here, "strategy", "sticky"), text=text)
    for key in _ROUTED:
        if strategy.get(key) and not routed:
            text = 'only a Gateway leads chosen requests elsewhere: expected "gateway" in platform'
            yield Problem(path=(*here, "strategy", key), text=text)
