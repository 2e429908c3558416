"""From a commit to an image.

What goes in is the commit's content, the lock and ``format``; never the commit's name, a time, an environment, a
secret, or the machine. ``stages`` says what an image is made of.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from stelae.build import lock_changes
from stelae.build.base import Wish
from stelae.build.bench import Bench, Progress
from stelae.build.boot_root import boot_root
from stelae.build.cache import Cache
from stelae.build.config import config_bytes, manifest_bytes
from stelae.build.inputs import Inputs
from stelae.build.mirror import Mirror
from stelae.build.request import BuildRequest, BuildResult, BuiltLayer, LockResult
from stelae.build.roots import Roots
from stelae.build.secrets import Secrets
from stelae.build.source import Source, opened, with_disk
from stelae.build.stages import Built, Stages
from stelae.domain.digest import Digest, digest_of, hex_of
from stelae.domain.errors import InvalidInput, StelaeError
from stelae.domain.image import Image
from stelae.domain.process import Process
from stelae.images.disk import room_on
from stelae.images.layout import Layout, image_of

__all__ = ["BuildRequest", "BuildResult", "Builder", "BuiltLayer", "LockResult"]


class Builder:
    """Builds images into *layout* from what *mirror* holds; *cache* is a folder of its own, *inputs* that of the
    store of inputs, *group* the parent of control groups that hold the memory of ``run`` lines ("": none is made).

    Its methods block (call them in a worker thread) and may be called by several threads and processes at once.
    """

    def __init__(self, layout: Layout, mirror: Mirror, cache: Path, inputs: Path, *, group: str = "") -> None:
        self._layout = layout
        self._mirror = mirror
        self._cache = Cache(cache, layout)
        self._roots = Roots(cache / "roots", layout)
        self._work = cache / "work"
        self._inputs = inputs
        self._group = group

    def build(self, request: BuildRequest, progress: Progress = lambda _: None) -> BuildResult:
        """Build *request*; *progress* gets lines for a person, from this thread.

        Raises InvalidInput for a source, spec, lock or secret that cannot be built with, Failed when a step fails or
        the disk is full, Unreachable when an archive does not answer or a tool is missing. Then no image is named.
        """
        start = time.monotonic()
        with self.begun(request, progress) as (source, bench):
            stages = Stages(source, bench)
            built = stages.image()
            config = config_bytes(
                app=source.spec.app, processes=_processes(source, built), layers=built.layers, user=built.user,
                workdir=built.workdir, environment=built.environment, jobs=source.spec.jobs,
            )  # fmt: skip
            lock = stages.lock()
            keep_lock(bench.inputs, lock.text())
            image, created = self._put(source.spec.app, config, manifest_bytes(config, built.layers))
        return BuildResult(
            image=image, created=created, layers=_report(built), lock=lock.text(), locked=source.lock is not None,
            network=source.spec.recipe.network, inputs=lock.inputs, seconds=time.monotonic() - start,
        )  # fmt: skip

    def lock(
        self, request: BuildRequest, progress: Progress = lambda _: None, *, upgrade: bool = False
    ) -> LockResult:  # fmt: skip
        """Return a new ``stelae.lock`` for *request*. What is locked and still asked for stays, unless *upgrade* asks
        for the newest of everything. Raises as ``build``."""
        wish = Wish.NEWEST if upgrade else Wish.KEEP
        with self.begun(request, progress, checked=False) as (source, bench):
            new = Stages(source, bench, wish).lock()
            if source.spec.disk:
                new = with_disk(new, boot_root(bench, source, wish).stage)
            return LockResult(
                text=new.text(), changes=lock_changes.inputs(source.whole, new),
                archives=lock_changes.archives(source.whole, new),
            )  # fmt: skip

    @contextmanager
    def begun(
        self, request: BuildRequest, progress: Progress, *, checked: bool = True
    ) -> Iterator[tuple[Source, Bench]]:  # fmt: skip
        """Give the source of *request*, whose lock has to fit the recipe with *checked*, and a place to work; raises
        as ``build``."""
        with (
            opened(self._mirror, request, checked=checked) as source,
            self._bench(request, source, progress) as bench,
        ):
            yield source, bench

    @contextmanager
    def _bench(self, request: BuildRequest, source: Source, progress: Progress) -> Iterator[Bench]:
        """Give a place to work that is gone afterwards, with all that was written there; a full disk is Failed."""
        with self._layout.in_use(), room_on(self._work), ExitStack() as stack:
            secrets = stack.enter_context(Secrets(request.secrets))
            secrets.check(name for steps in source.tables.values() for name in steps.secrets)
            self._work.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self._work)
            work = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self._work))
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            bench = Bench(
                mirror=self._mirror, cache=self._cache, roots=self._roots, secrets=secrets, group=self._group,
                inputs=Inputs(self._inputs, offline=request.offline), work=work,
                progress=lambda text: progress(secrets.mask(text)),
            )  # fmt: skip
            try:
                yield bench
            except StelaeError as error:
                raise secrets.clean(error) from None  # what it was raised from may hold one

    def _put(self, app: str, config: bytes, manifest: bytes) -> tuple[Image, bool]:
        digest = digest_of(manifest)
        known = any(entry.digest == digest for entry in self._layout.images())
        if not known:
            self._layout.put_image(manifest, name=f"{app}-{hex_of(digest)[:12]}", config=config)
        return image_of(self._layout, digest), not known


def _processes(source: Source, built: Built) -> tuple[Process, ...]:
    """Return the processes, with the command of the Dockerfile where the spec gives none."""
    for process in source.spec.processes:
        if not process.command and not built.command:
            raise InvalidInput(
                "the Dockerfile has neither ENTRYPOINT nor CMD", where=f"process.{process.name}.command",
                hint='say what it runs: command = ["..."]',
            )  # fmt: skip
    return tuple(
        process if process.command else replace(process, command=built.command) for process in source.spec.processes
    )


def keep_lock(inputs: Inputs, text: str) -> Digest:
    """Keep the text of the lock of an image, or of a disk, and return its digest."""
    digest = digest_of(text.encode())
    return digest if inputs.find(digest) is not None else inputs.blobs.add(text.encode())


def _report(built: Built) -> tuple[BuiltLayer, ...]:
    return tuple(
        BuiltLayer(name=name, digest=layer.digest, size=layer.size, cached=step.cached)
        for name, step in built.made.items()
        for layer in step.layers
    )


def remove_abandoned(folder: Path) -> None:
    """Remove the work folders of processes that are no more."""
    for place in folder.iterdir():
        owner = place.name.partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(place, ignore_errors=True)
