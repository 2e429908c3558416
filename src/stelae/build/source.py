"""The source of a build: a commit's folder, its spec, its lock, and the files that pin dependencies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

from stelae.build import lock as locks
from stelae.build.config import architecture
from stelae.build.files_layer import SPEC_NAME
from stelae.build.git import Reader
from stelae.build.mirror import Mirror, check_path
from stelae.build.request import BuildRequest
from stelae.domain.digest import digest_of
from stelae.domain.errors import InvalidInput
from stelae.domain.recipe import AppSpec, Steps
from stelae.spec.document import parse as parse_spec

IMAGE = ""
"""The name, among those of stages, of the image itself."""

DISK = "disk"
"""The name, among the stages of a lock, of what disks are made of besides the image. No image has it as an input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A commit's folder, opened: its tree, its spec, its lock, the lock of its recipe as far as it is known without
    making anything, and the files that pin the dependencies of languages, by path. ``lock`` and ``wanted`` are of the
    image alone; ``disk`` is the stage of the lock for its disks, None where there is none."""

    repository: str
    reader: Reader
    tree: str
    spec: AppSpec
    lock: locks.Lock | None
    wanted: locks.Lock
    pins: Mapping[str, bytes]
    disk: locks.StageLock | None = None

    @property
    def whole(self) -> locks.Lock | None:
        """The lock, with what it has for disks."""
        return self.lock if self.lock is None or self.disk is None else with_disk(self.lock, self.disk)

    @property
    def tables(self) -> dict[str, Steps]:
        """The stages of the recipe by name, and the image itself."""
        return _tables(self.spec)


@contextmanager
def opened(mirror: Mirror, request: BuildRequest, *, checked: bool = True) -> Iterator[Source]:
    """Open the source of *request*; with *checked* its lock has to fit the recipe. Raises InvalidInput."""
    path = check_path(request.path)
    with mirror.read(request.repository) as reader:
        tree = mirror.tree(reader, request.commit, path)
        text = _file(reader, tree, SPEC_NAME)
        if text is None:
            place = f"{path}/{SPEC_NAME}" if path else SPEC_NAME
            raise InvalidInput(f"commit {request.commit[:7]} has no {place}", hint="stelae init writes one")
        spec = _parsed(text)
        pins = _pins(reader, tree, spec)
        stages = {name: _wanted(steps, pins) for name, steps in _tables(spec).items()}
        wanted = locks.Lock(architecture=architecture(), stages=stages)
        found = request.lock or _file(reader, tree, locks.FILE_NAME)
        lock, disk = (None, None) if found is None else _known(found, wanted, checked=checked)
        yield Source(
            repository=request.repository, reader=reader, tree=tree, spec=spec, lock=lock, wanted=wanted, pins=pins,
            disk=disk,
        )  # fmt: skip


def with_disk(lock: locks.Lock, disk: locks.StageLock) -> locks.Lock:
    """Return *lock*, of an image, with the stage *disk* for its disks."""
    return replace(lock, stages={**lock.stages, DISK: disk})


def place(name: str) -> str:
    """Return where the table of the stage *name* is in the spec."""
    return "image" if name == IMAGE else f"image.stage.{name}"


@lru_cache(maxsize=16)
def _parsed(text: str) -> AppSpec:
    # The same text again and again: of builds of one app that changed elsewhere, or nowhere.
    return parse_spec(text)


def _tables(spec: AppSpec) -> dict[str, Steps]:
    return {IMAGE: spec.recipe, **{stage.name: stage for stage in spec.recipe.stages}}


def _wanted(steps: Steps, pins: Mapping[str, bytes]) -> locks.StageLock:
    files = sorted((path, digest_of(pins[path])) for path in {steps.python, steps.node} - {""})
    return locks.StageLock(base=steps.base, packages=tuple(sorted(set(steps.packages))), files=tuple(files))


def _known(
    text: str, wanted: locks.Lock, *, checked: bool
) -> tuple[locks.Lock | None, locks.StageLock | None]:  # fmt: skip
    """Return the lock *text*, of the image, and what it has for disks; one that a new lock will replace need not fit,
    and may be damaged. What it has for disks plays no part for the image."""
    try:
        lock = locks.parse(text)
    except InvalidInput:
        if checked:
            raise
        return None, None
    disk = lock.stages.get(DISK) if DISK not in wanted.stages else None
    if disk is not None:
        lock = replace(lock, stages={name: stage for name, stage in lock.stages.items() if name != DISK})
    if checked:
        locks.check_recipe(lock, wanted)
    return lock, disk


def _pins(reader: Reader, tree: str, spec: AppSpec) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, steps in _tables(spec).items():
        for key, path in (("python", steps.python), ("node", steps.node)):
            if path and path not in found:
                item = reader.get(f"{tree}:{check_path(path)}")
                if item is None or item.kind != "blob":
                    raise InvalidInput(f"the commit has no file {path}", where=f"{place(name)}.{key}")
                found[path] = item.data
    return found


def _file(reader: Reader, tree: str, name: str) -> str | None:
    """Return the text of file *name* of the folder *tree*, None when it is not there."""
    found = reader.get(f"{tree}:{name}")
    if found is None or found.kind != "blob":
        return None
    try:
        return found.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("not text in UTF-8", where=name) from error
