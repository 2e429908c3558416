"""Containers: the form of an instance whose process is a program of its image, in the image's mounted root."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Protocol

from stelae.domain.digest import Digest
from stelae.domain.drift import Finding
from stelae.domain.release import Release
from stelae.images.roots import LayerFile
from stelae.platforms.local import private
from stelae.platforms.local.bundle import write_bundle
from stelae.platforms.local.form import Host
from stelae.platforms.local.inspect import layers, settings
from stelae.platforms.local.inspect.scene import Scene
from stelae.platforms.local.place import Place
from stelae.platforms.local.tools import lend
from stelae.platforms.port import LaunchSpec
from stelae.platforms.user import user_in


class Roots(Protocol):
    """Who has the images' mounted roots."""

    def mount_image(self, digest: Digest) -> Path:
        """Return the mounted read-only root of an image, mounting it when it is not; raises Failed."""

    def layers_of(self, digest: Digest) -> tuple[LayerFile, ...]:
        """Return the layers of an image; raises Failed."""

    def distrust(self, layer: Digest, file: tuple[int, int]) -> None:
        """Have a layer mounted from another file than this one (device and inode) for whoever asks next."""


class Containers:
    """Implements ``Form``. *config* gives an image's OCI configuration. Safe for threads."""

    programs = ""
    tap = None

    def __init__(self, roots: Roots, config: Callable[[Digest], Mapping[str, Any]]) -> None:
        self._roots = roots
        self._config = config
        self._lock = threading.Lock()

    def mount(self, digest: Digest) -> Path:
        """Return the root of an image, one caller at a time; raises Failed."""
        with self._lock:
            return self._roots.mount_image(digest)

    def prepare(self, release: Release) -> None:
        """See ``Form.prepare``: the image is there, verified and mounted."""
        self.mount(release.image)

    def room(self, values: Mapping[str, bytes]) -> int:
        """See ``Form.room``."""
        return private.room_for(values) if values else 0

    def write(
        self, place: Place, spec: LaunchSpec, address: IPv4Address, values: Mapping[str, bytes], host: Host
    ) -> None:
        """See ``Form.write``."""
        image = spec.release.image
        root, config = self.mount(image), self._config(image)
        delivery = private.fill(place, spec, values, user_in(config), root)
        lent = lend(place.installation) if spec.debug is not None and spec.debug.lent else None
        write_bundle(place, spec, root, config, address, host, delivery, lent)

    def files(self, release: Release) -> tuple[LayerFile, ...]:
        """See ``Form.files``: the layers of its image."""
        return self._roots.layers_of(release.image)

    def distrust(self, content: Digest, file: tuple[int, int]) -> None:
        """See ``Form.distrust``."""
        self._roots.distrust(content, file)

    def against(self, scene: Scene) -> Iterator[Finding]:
        """See ``Form.against``."""
        yield from settings.against_release(scene)

    def check(self, scene: Scene) -> Iterator[Finding]:
        """See ``Form.check``: its root is made of its image's layers."""
        yield from layers.check_root(scene)
