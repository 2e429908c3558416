"""Recipes: how a source becomes an image, and the whole of what ``stelae.toml`` says."""

from __future__ import annotations

from dataclasses import dataclass

from stelae.domain.environment import Environment
from stelae.domain.process import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The part of the spec that shapes an image, besides its processes.

    ``base`` is ``debian:SUITE``, ``oci:PATH[:TAG]`` (an OCI layout or archive inside the controller's reach),
    or ``scratch``. ``packages`` are Debian package names; ``python`` is the path, in the source, of a
    requirements file with hashes. ``exclude`` are glob patterns of files that stay out. ``run`` are shell
    lines, carried out in ``workdir`` as root, without a network. ``user`` is the name of the user that
    processes run as.
    """

    base: str
    packages: tuple[str, ...] = ()
    python: str = ""
    exclude: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    workdir: str = "/app"
    user: str = "app"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSpec:
    """One ``stelae.toml``: what shapes the image, and what is applied to the controller."""

    app: str
    recipe: Recipe
    processes: tuple[Process, ...]
    environments: tuple[Environment, ...]
