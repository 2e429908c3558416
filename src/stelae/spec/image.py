"""The rules of ``[image]`` and its stages that join two values."""

from __future__ import annotations

import json
from collections.abc import Iterator

from stelae.domain.recipe import Recipe
from stelae.spec.places import SYSTEM, Table, overlap, table_at
from stelae.spec.problem import Path, Problem, nearest, shown
from stelae.spec.refused import is_other_lock
from stelae.spec.structure import needed

DEFAULT_WORKDIR = Recipe(base="scratch").workdir

_DOCKERFILE = frozenset({"dockerfile", "dockerfile_network", "user", "secrets", "limits"})
_NODE_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")


def check(whole: Table, sound: Table) -> Iterator[Problem]:
    """Yield what is wrong between the values of the image (see ``checks``)."""
    if "dockerfile" in table_at(whole, "image"):
        yield from _dockerfile(table_at(whole, "image"))
        return
    stages = list(table_at(whole, "image", "stage"))
    if "disk" in stages and "disk" in whole:
        yield Problem(path=("image", "stage", "disk"), text="[disk] has this name in stelae.lock; give it another")
    if isinstance(whole.get("image"), dict):
        yield from _recipe(whole["image"])
    for index, name in enumerate(stages):
        here: Path = ("image", "stage", name)
        yield from _steps(here, table_at(sound, "image", "stage", name), stages[:index], stages)
    yield from _steps(("image",), table_at(sound, "image"), stages, stages)
    yield from _unused(whole, stages)


def _dockerfile(table: Table) -> Iterator[Problem]:
    for key in table:
        if key not in _DOCKERFILE:
            yield Problem(path=("image", key), text="not beside dockerfile, which says how the image is made")
    secrets = table.get("secrets")
    if isinstance(secrets, list) and all(isinstance(name, str) for name in secrets):
        yield from _repeated(("image", "secrets"), secrets)


def _recipe(table: Table) -> Iterator[Problem]:
    if "base" not in table:
        yield Problem(path=("image", "base"), text=f"missing; expected {needed(('image', 'base'))}")
    if "dockerfile_network" in table:
        yield Problem(path=("image", "dockerfile_network"), text="expected dockerfile beside it")


def _steps(here: Path, table: Table, above: list[str], stages: list[str]) -> Iterator[Problem]:
    yield from _base_rules(here, table)
    if is_other_lock(table.get("python", "")):
        text = "give requirements with hashes, uv.lock or pylock.toml; stelae init says how to make one"
        yield Problem(path=(*here, "python"), text=text, unsupported=True)
    if "node" in table and table["node"].rsplit("/", 1)[-1] not in _NODE_LOCKS:
        yield Problem(path=(*here, "node"), text=f"expected a file called {' or '.join(_NODE_LOCKS)}")
    workdir = str(table.get("workdir", DEFAULT_WORKDIR))
    if any(overlap(workdir, system) for system in SYSTEM):
        yield Problem(path=(*here, "workdir"), text=f"expected a folder apart from {', '.join(SYSTEM)}")
    if table.get("secrets") and not any(table.get(key) for key in ("run", "python", "node")):
        yield Problem(path=(*here, "secrets"), text="expected run, python or node beside it, to read them")
    for key in ("packages", "files", "exclude", "secrets"):
        yield from _repeated((*here, key), table.get(key, []))
    for index, item in enumerate(table.get("copy", [])):
        yield from _copy((*here, "copy", index), item, above, stages)


def _base_rules(here: Path, table: Table) -> Iterator[Problem]:
    base = table.get("base", "")
    if base and not base.startswith("debian:") and table.get("packages"):
        text = f'expected a base "debian:SUITE", not {json.dumps(shown(base))}'
        yield Problem(path=(*here, "packages"), text=text)
    for key, language in (("python", "Python"), ("node", "Node")):
        if base == "scratch" and table.get(key):
            text = f'expected another base than "scratch", which has no {language}'
            yield Problem(path=(*here, key), text=text)


def _copy(here: Path, item: Table, above: list[str], stages: list[str]) -> Iterator[Problem]:
    name = item["from"]
    if name not in stages:
        near = nearest(name, stages)
        text = f'expected the name of a stage, got "{name}"' + (f'. Did you mean "{near}"?' if near else "")
        yield Problem(path=(*here, "from"), text=text)
    elif name not in above:
        yield Problem(path=(*here, "from"), text=f'expected a stage that stands above; "{name}" does not')
    to = str(item.get("to", item["path"]))
    if any(overlap(to, system) for system in SYSTEM):
        text = f"expected a place apart from {', '.join(SYSTEM)}"
        yield Problem(path=(*here, "to" if "to" in item else "path"), text=text)


def _unused(whole: Table, stages: list[str]) -> Iterator[Problem]:
    tables = [table_at(whole, "image"), *(table_at(whole, "image", "stage", name) for name in stages)]
    lists = [table.get("copy") for table in tables]
    used = {
        item.get("from") if isinstance(item.get("from"), str) else ""
        for copies in lists
        if isinstance(copies, list)
        for item in copies
        if isinstance(item, dict)
    }
    for name in stages:
        if name not in used:
            yield Problem(path=("image", "stage", name), text="nothing is copied from it")


def _repeated(path: Path, items: list[str]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, item in enumerate(items):
        if item in seen:
            yield Problem(path=(*path, index), text=f"{json.dumps(shown(item))} is listed twice")
        seen.add(item)
