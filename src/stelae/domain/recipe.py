"""Recipes: how a source becomes an image, and the whole of what ``stelae.toml`` says."""

from __future__ import annotations

from dataclasses import dataclass

from stelae.domain.environment import Environment
from stelae.domain.job import Job
from stelae.domain.process import Process
from stelae.domain.units import GIB, MINUTE, Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a ``run`` line may take: ``time`` for one line, ``memory`` (bytes) of all its processes together,
    ``disk`` (bytes) for what all lines of one table leave and keep there."""

    time: Duration = 15 * MINUTE
    memory: int = 2 * GIB
    disk: int = 10 * GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What is taken from a stage: its file or folder ``path``, put at ``to``; both are absolute."""

    stage: str
    path: str
    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What a stage and the image itself are made of, in the order in which it is put together.

    ``base`` is ``debian:SUITE``, ``oci:PATH[:TAG]`` (an OCI layout or archive inside the controller's reach),
    ``oci:NAME@DIGEST`` (in a registry), ``scratch``, or ``dockerfile`` for a recipe that is one. ``packages`` are
    Debian package names; ``python`` and ``node`` are paths, in the source, of the files that pin the dependencies of
    a language with hashes. ``files`` are glob patterns of the files of the source that go in (None: all), ``exclude``
    of those that do not. ``copy`` is what comes from stages. ``run`` are shell lines, carried out in ``workdir`` as
    root, without a network. ``secrets`` are the names of files that the lines, and what downloads dependencies, may
    read.
    """

    base: str
    packages: tuple[str, ...] = ()
    python: str = ""
    node: str = ""
    files: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    copy: tuple[Copy, ...] = ()
    run: tuple[str, ...] = ()
    workdir: str = "/app"
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Steps):
    """A root file system that is made only to copy from: ``name`` is unique in the recipe."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Steps):
    """The part of the spec that shapes an image, besides its processes.

    ``user`` is the name of the user that processes run as; ``stages`` are what ``copy`` refers to, in an order in
    which each copies only from earlier ones; ``limits`` hold for every ``run`` line of the recipe.
    ``dockerfile`` is the path, in the source, of the Dockerfile that makes the image instead of the steps ("": there
    is none), ``network`` whether its lines have a network; then ``user`` may be "", the Dockerfile's own.
    """

    user: str = "app"
    dockerfile: str = ""
    network: bool = False
    stages: tuple[Stage, ...] = ()
    limits: Limits = Limits()

    def stage(self, name: str) -> Stage:
        """Return the stage called *name*; raises KeyError."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSpec:
    """One ``stelae.toml``: what shapes the image, and what is applied to the controller.

    ``disk`` is the base (``debian:SUITE``) that disks of the image take their kernel from, "" where none are made.
    """

    app: str
    recipe: Recipe
    processes: tuple[Process, ...]
    environments: tuple[Environment, ...]
    jobs: tuple[Job, ...] = ()
    disk: str = ""
