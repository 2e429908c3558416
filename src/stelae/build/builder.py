"""From a commit to an image: the recipe's steps in the order of how seldom they change.

    base      Debian packages, another image, or nothing
    python    the dependencies of a requirements file with hashes
    system    mount points and the user (a part of ``format``)
    files     what git holds, below the working directory
    run       what the recipe's commands changed, in a sandbox

Each step is a layer, cached by the digest of all that goes into it. What goes in is the commit's content, the
lock and ``format``; never the commit's name, a time, an environment, or the machine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from stelae.build import lock as locks
from stelae.build.base import Wish, make_base
from stelae.build.cache import Cache, Made
from stelae.build.config import FILE_TIME, LayerFile, architecture, config_bytes, manifest_bytes
from stelae.build.files_layer import SPEC_NAME, files_tree
from stelae.build.git import Reader
from stelae.build.inputs import Inputs, told
from stelae.build.mirror import Mirror, check_path
from stelae.build.python_deps import make_python
from stelae.build.roots import Roots
from stelae.build.sandbox import Sandbox, lay_out
from stelae.build.spool import Spool
from stelae.build.system_layer import above, system
from stelae.domain.digest import Digest, digest_of, hex_of
from stelae.domain.errors import InvalidInput
from stelae.domain.image import Image
from stelae.domain.inputs import Input, InputKind
from stelae.domain.recipe import AppSpec
from stelae.images.disk import room_on
from stelae.images.layout import Layout, image_of
from stelae.images.tree import Kind, Node, Tree
from stelae.spec.document import parse as parse_spec

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What to build: a commit (full id) of a mirrored repository, and the app's folder in it.

    With ``offline`` nothing is fetched. ``lock`` is the text of a lock that counts instead of the commit's.
    """

    repository: str
    commit: str
    path: str = ""
    offline: bool = False
    lock: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltLayer:
    """One layer of the image: which step made it, its digest and size in bytes, and whether it was cached."""

    name: str
    digest: str
    size: int
    cached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """An image, whether it is new to the store, its layers, the lock that describes it, whether that was the
    commit's own, all inputs that it was made of (sorted), and the time it took."""

    image: Image
    created: bool
    layers: tuple[BuiltLayer, ...]
    lock: str
    seconds: float
    locked: bool = False
    inputs: tuple[Input, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A commit's folder, opened: its tree, its spec, its lock, the lock of its recipe as far as it is known without
    making anything, and its requirements file."""

    repository: str
    reader: Reader
    tree: str
    spec: AppSpec
    lock: locks.Lock | None
    wanted: locks.Lock
    requirements: tuple[str, bytes] | None


class Builder:
    """Builds images into *layout* from what *mirror* holds; *cache* is a folder of its own, *inputs* that of the
    store of inputs.

    Its methods block (call them in a worker thread) and may be called by several threads and processes at once.
    """

    def __init__(self, layout: Layout, mirror: Mirror, cache: Path, inputs: Path) -> None:
        self._layout = layout
        self._mirror = mirror
        self._cache = Cache(cache, layout)
        self._roots = Roots(cache / "roots", layout)
        self._work = cache / "work"
        self._inputs = inputs

    def build(self, request: BuildRequest, progress: Progress = lambda _: None) -> BuildResult:
        """Build *request*; *progress* gets lines for a person, from this thread.

        Raises InvalidInput for a source, spec or lock that cannot be built, Failed when a step fails or the
        disk is full, Unreachable when an archive does not answer or a tool is missing. Then no image is named.
        """
        start = time.monotonic()
        inputs = Inputs(self._inputs, offline=request.offline)
        with self._workplace() as work, self._source(request) as source:
            made, user, workdir = self._layers(source, inputs, work, progress)
            layers = [layer for step in made.values() for layer in step.layers]
            config = config_bytes(
                app=source.spec.app, processes=source.spec.processes, layers=layers, user=user, workdir=workdir,
                environment=made["base"].facts.get("env", ()),
            )  # fmt: skip
            lock = _lock(source.wanted, made)
            _keep(inputs, lock.text())
            image, created = self._put(source.spec.app, config, manifest_bytes(config, layers))
        return BuildResult(
            image=image, created=created, layers=_report(made), lock=lock.text(), locked=source.lock is not None,
            inputs=lock.inputs, seconds=time.monotonic() - start,
        )  # fmt: skip

    def lock(self, request: BuildRequest, progress: Progress = lambda _: None, *, upgrade: bool = False) -> str:
        """Return the text of a new ``stelae.lock`` for *request*. What is locked and still asked for stays, unless
        *upgrade* asks for the newest of everything. Raises as ``build``."""
        inputs = Inputs(self._inputs, offline=request.offline)
        wish = Wish.NEWEST if upgrade else Wish.KEEP
        with self._workplace() as work, self._source(request, checked=False) as source:
            made = {"base": self._base(source, inputs, work, progress, wish)}
            if source.requirements is not None:
                made["python"] = self._python(source, inputs, made["base"], work, progress, wish)
            return _lock(source.wanted, made).text()

    @contextmanager
    def _workplace(self) -> Iterator[Path]:
        """Give an empty folder that is gone afterwards; a full disk is Failed."""
        with room_on(self._work), ExitStack() as stack:
            self._work.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(self._work)
            work = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self._work))
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            yield work

    @contextmanager
    def _source(self, request: BuildRequest, *, checked: bool = True) -> Iterator[_Source]:
        path = check_path(request.path)
        with self._mirror.read(request.repository) as reader:
            tree = self._mirror.tree(reader, request.commit, path)
            text = _file(reader, tree, SPEC_NAME)
            if text is None:
                place = f"{path}/{SPEC_NAME}" if path else SPEC_NAME
                raise InvalidInput(f"commit {request.commit[:7]} has no {place}", hint="stelae init writes one")
            spec = parse_spec(text)
            requirements = _requirements(reader, tree, spec.recipe.python)
            stage = locks.StageLock(
                base=spec.recipe.base, packages=tuple(sorted(set(spec.recipe.packages))),
                files=((requirements[0], digest_of(requirements[1])),) if requirements else (),
            )  # fmt: skip
            wanted = locks.Lock(architecture=architecture(), stages={"": stage})
            found = request.lock or _file(reader, tree, locks.FILE_NAME)
            lock = _known(found, wanted, checked=checked) if found else None
            yield _Source(
                repository=request.repository, reader=reader, tree=tree, spec=spec, lock=lock, wanted=wanted,
                requirements=requirements,
            )  # fmt: skip

    def _base(self, source: _Source, inputs: Inputs, work: Path, progress: Progress, wish: Wish) -> Made:
        locked = source.lock.stages.get("") if source.lock else None
        return make_base(self._cache, source.spec.recipe, inputs, locked, work, progress, wish=wish)

    def _python(
        self, source: _Source, inputs: Inputs, base: Made, work: Path, progress: Progress, wish: Wish = Wish.LOCKED
    ) -> Made:
        assert source.requirements is not None
        locked = source.lock.stages[""].of(InputKind.WHEEL) if source.lock and wish is Wish.LOCKED else None
        return make_python(
            self._cache, self._roots, inputs, source.requirements, base.layers, locked, work, progress
        )  # fmt: skip

    def _layers(
        self, source: _Source, inputs: Inputs, work: Path, progress: Progress
    ) -> tuple[dict[str, Made], tuple[int, int], str]:
        """Return what each step made, the user's numbers and the working directory."""
        base = self._base(source, inputs, work, progress, Wish.LOCKED)
        made = {"base": base}
        _say(progress, "base", base)
        if source.requirements is not None:
            made["python"] = self._python(source, inputs, base, work, progress)
            _say(progress, "python", made["python"])
        made["system"] = self._system(source.spec, base.layers)
        facts = made["system"].facts
        made["files"] = self._files(source, facts["above"], work)
        _say(progress, "files", made["files"])
        if source.spec.recipe.run:
            below = [layer for step in made.values() for layer in step.layers]
            kept = len(below) - len(made["files"].layers)
            made["run"] = self._run(source.spec, below, kept, work, progress)
            _say(progress, "run", made["run"])
        return made, (facts["uid"], facts["gid"]), source.spec.recipe.workdir

    def _system(self, spec: AppSpec, base: tuple[LayerFile, ...]) -> Made:
        mounts = sorted({item.path for process in spec.processes for item in process.tmpfs})
        inputs = {
            "base": [layer.digest for layer in base], "user": spec.recipe.user, "workdir": spec.recipe.workdir,
            "mounts": mounts, "time": FILE_TIME,
        }  # fmt: skip

        def make() -> Made:
            found = system(self._roots.tree(base), spec.recipe.user, spec.recipe.workdir, mounts)
            folders = [
                [path.decode("utf-8", "surrogateescape"), node.mode, node.uid, node.gid]
                for path, node in above(found.tree, found.workdir)
            ]
            return Made(
                layers=self._written(found.tree), facts={"uid": found.uid, "gid": found.gid, "above": folders}
            )  # fmt: skip

        return self._cache.once("system", inputs, make)

    def _files(self, source: _Source, folders: list[tuple[str, int, int, int]], work: Path) -> Made:
        recipe = source.spec.recipe
        inputs = {"tree": source.tree, "exclude": list(recipe.exclude), "above": folders, "time": FILE_TIME}

        def make() -> Made:
            tree, workdir = Tree(), b""
            for name, mode, uid, gid in folders:
                workdir = name.encode("utf-8", "surrogateescape")
                tree.add(workdir, Node(kind=Kind.DIRECTORY, mode=mode, uid=uid, gid=gid))
            entries = self._mirror.export(source.repository, source.tree)
            tree = files_tree(entries, source.reader, recipe.exclude, workdir, tree, Spool(work / "files.spool"))
            return Made(layers=self._written(tree))

        return self._cache.once("files", inputs, make)

    def _run(self, spec: AppSpec, below: list[LayerFile], kept: int, work: Path, progress: Progress) -> Made:
        recipe = spec.recipe
        inputs = {
            "below": [layer.digest for layer in below], "run": list(recipe.run), "workdir": recipe.workdir,
            "time": FILE_TIME,
        }  # fmt: skip

        def make() -> Made:
            # The layer of the files is another with each commit: it is laid out for this build only.
            lowers = self._roots.folders(below[:kept])
            lowers += [lay_out(self._roots.layer(layer.digest), work / "files") for layer in below[kept:]]
            place = work / "run"
            place.mkdir()
            sandbox = Sandbox(lowers, place)
            for line in recipe.run:
                progress(f"run: {line}")
                sandbox.run(line, recipe.workdir, progress)
            return Made(layers=self._written(sandbox.changes()))

        return self._cache.once("run", inputs, make)

    def _written(self, tree: Tree) -> tuple[LayerFile, ...]:
        """Store *tree* as a layer; an empty one is none."""
        if not tree:
            return ()
        digest, size = self._layout.add_layer(tree, mtime=FILE_TIME)
        return (LayerFile(digest=digest, size=size),)

    def _put(self, app: str, config: bytes, manifest: bytes) -> tuple[Image, bool]:
        digest = digest_of(manifest)
        known = any(entry.digest == digest for entry in self._layout.images())
        if not known:
            self._layout.add_blob(config)
            self._layout.put_image(manifest, name=f"{app}-{hex_of(digest)[:12]}")
        return image_of(self._layout, digest), not known


def _known(text: str, wanted: locks.Lock, *, checked: bool) -> locks.Lock | None:
    """Return the lock *text*; one that a new lock will replace need not fit, and may be damaged."""
    try:
        lock = locks.parse(text)
    except InvalidInput:
        if checked:
            raise
        return None
    if checked:
        locks.check_recipe(lock, wanted)
    return lock


def _lock(wanted: locks.Lock, made: dict[str, Made]) -> locks.Lock:
    """Return the lock of what was made."""
    inputs = tuple(sorted({item for step in made.values() for item in told(step.facts)}))
    stage = replace(wanted.stages[""], inputs=inputs, archive=made["base"].facts.get("archive", ""))
    return replace(wanted, stages={"": stage})


def _keep(inputs: Inputs, text: str) -> Digest:
    """Keep the text of the lock of an image and return its digest."""
    digest = digest_of(text.encode())
    return digest if inputs.find(digest) is not None else inputs.blobs.add(text.encode())


def _report(made: dict[str, Made]) -> tuple[BuiltLayer, ...]:
    return tuple(
        BuiltLayer(name=name, digest=layer.digest, size=layer.size, cached=step.cached)
        for name, step in made.items()
        for layer in step.layers
    )


def _say(progress: Progress, name: str, made: Made) -> None:
    size = sum(layer.size for layer in made.layers)
    shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    progress(f"{name}: {shown}{' (cached)' if made.cached else ''}")


def _file(reader: Reader, tree: str, name: str) -> str | None:
    """Return the text of file *name* of the folder *tree*, None when it is not there."""
    found = reader.get(f"{tree}:{name}")
    if found is None or found.kind != "blob":
        return None
    try:
        return found.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("not text in UTF-8", where=name) from error


def _requirements(reader: Reader, tree: str, path: str) -> tuple[str, bytes] | None:
    if not path:
        return None
    found = reader.get(f"{tree}:{check_path(path)}")
    if found is None or found.kind != "blob":
        raise InvalidInput(f"the commit has no file {path}", where="image.python")
    return path, found.data


def _remove_abandoned(folder: Path) -> None:
    """Remove the work folders of processes that are no more."""
    for place in folder.iterdir():
        owner = place.name.partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(place, ignore_errors=True)
