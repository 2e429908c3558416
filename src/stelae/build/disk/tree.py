"""The boot root: a tree of Debian packages from which files are taken by name, and of which each is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from stelae.domain.errors import Failed

_MOST_LINKS = 40
_LISTS = "var/lib/dpkg/info"


@dataclass(frozen=True)
class BootRoot:
    """The tree at ``path``; ``taken`` are the packages of which a file was read."""

    path: Path
    taken: set[str] = field(default_factory=set)

    def read(self, name: str) -> bytes:
        """Return the file *name* (without a leading slash), and remember its package; raises Failed."""
        place = self.find(name)
        owner = self._owners.get(_plain(place.relative_to(self.path).as_posix()))
        if owner is None:
            raise Failed(f"/{name} is of no package of the disk's")
        self.taken.add(owner)
        return place.read_bytes()

    def find(self, name: str) -> Path:
        """Return where the file *name* is, whose symbolic links lead to places inside of the tree; raises Failed."""
        done: list[str] = []
        waiting, links = name.split("/"), 0
        while waiting and links <= _MOST_LINKS:
            part = waiting.pop(0)
            if part == "..":
                done = done[:-1]
            elif part not in ("", "."):
                place = self.path.joinpath(*done, part)
                if not place.is_symlink():
                    done.append(part)
                    continue
                links += 1
                target = place.readlink().as_posix()
                done = [] if target.startswith("/") else done
                waiting = target.split("/") + waiting
        found = self.path.joinpath(*done)
        if waiting or not found.is_file():
            raise Failed(f"the disk's packages have no file /{name}")
        return found

    @cached_property
    def _owners(self) -> dict[str, str]:
        """The package of each path, by dpkg's lists."""
        owners = {}
        for listed in sorted((self.path / _LISTS).glob("*.list")):
            package = listed.name.removesuffix(".list").partition(":")[0]
            for line in listed.read_text("utf-8", "surrogateescape").splitlines():
                owners[_plain(line.lstrip("/"))] = package
        return owners


def _plain(path: str) -> str:
    """Return *path* as if all of it was below /usr: a list may say /lib for what lies in /usr/lib."""
    return path.removeprefix("usr/")
