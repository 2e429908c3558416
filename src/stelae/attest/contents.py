"""What is inside an image: its layers' databases of packages, read from the lowest layer up.

Only the databases are read, and each layer once: what the layers up to it hold is kept by their digests, in a folder
that may be deleted at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from stelae.attest import databases, licences
from stelae.attest.packages import Distribution, Package, PackageKind
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of, hex_of
from stelae.images.content import Slice, read
from stelae.images.layout import Layout
from stelae.images.tar_reader import OPAQUE, leaves
from stelae.images.tree import WHITEOUT_PREFIX
from stelae.system.files import write_atomic

FORM = 1
"""Changes when the same layers are to be read in another way."""

MOST = 200
"""How many stacks of layers are remembered, the newest ones: each is some ten kilobytes, and a build may add one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The packages of an image, sorted, each kind, name and version once; and its distribution."""

    packages: tuple[Package, ...]
    distribution: Distribution


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What some layers show together, by the path of the file that says it (as Latin-1, so that any path can be)."""

    packages: dict[str, list[Package]] = field(default_factory=dict)
    licences: dict[str, list[str]] = field(default_factory=dict)
    distributions: dict[str, Distribution] = field(default_factory=dict)

    def hide(self, path: bytes, *, below: bool = True) -> None:
        """Forget what the file at *path* says, and with *below* all that is below it."""
        name = path.decode("latin-1")
        for known in (self.packages, self.licences, self.distributions):
            for item in [key for key in known if key == name or (below and key.startswith(name + "/"))]:
                del known[item]

    def folders(self) -> set[bytes]:
        """Return the files that say something, and each folder above them."""
        found: set[bytes] = set()
        for name in (*self.packages, *self.licences, *self.distributions):
            path = name.encode("latin-1")
            while path and path not in found:
                found.add(path)
                path = path.rpartition(b"/")[0]
        return found


class Inspector:
    """Reads the images in *layout*; *folder* keeps what was read."""

    def __init__(self, layout: Layout, folder: Path) -> None:
        self._layout = layout
        self._folder = folder

    def contents(self, image: Digest) -> Contents:
        """Return what is inside *image*; raises Failed when it is not whole, InvalidInput for a broken layer."""
        return self.of_layers(self._layout.layers(image))

    def of_layers(self, layers: Sequence[Digest]) -> Contents:
        """Return what is inside the root file system of *layers*, lowest first; raises as ``contents``."""
        seen = _Seen()
        start = 0
        for count in range(len(layers), 0, -1):
            known = self._load(layers[:count])
            if known is not None:
                seen, start = known, count
                break
        for count in range(start, len(layers)):
            _read(seen, self._layout.blob_path(layers[count]), layers[count])
            self._save(layers[: count + 1], seen)
        return _contents(seen)

    def _place(self, layers: Sequence[Digest]) -> Path:
        return self._folder / f"{hex_of(digest_of(canonical([FORM, *layers])))}.json"

    def _load(self, layers: Sequence[Digest]) -> _Seen | None:
        try:
            return msgspec.json.decode(self._place(layers).read_bytes(), type=_Seen)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def _save(self, layers: Sequence[Digest], seen: _Seen) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        known = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for path in known[: max(0, len(known) - MOST + 1)]:
            path.unlink(missing_ok=True)
        write_atomic(self._place(layers), msgspec.json.encode(seen), durable=False)


def _read(seen: _Seen, layer: Path, digest: Digest) -> None:
    """Bring *seen* up to date with the layer at *layer*: first what it hides, then what it says."""
    said: list[tuple[bytes, Slice]] = []
    known = seen.folders()
    before = dict(seen.packages)
    for path, content in leaves(layer):
        folder, _, name = path.rpartition(b"/")
        if name == OPAQUE:
            seen.hide(folder)
        elif name.startswith(WHITEOUT_PREFIX):
            seen.hide((folder + b"/" if folder else b"") + name.removeprefix(WHITEOUT_PREFIX))
        else:
            if path in known:
                seen.hide(path)
            if content is not None and content.size <= databases.LARGEST and databases.is_database(path):
                said.append((path, content))
    for path, content in said:
        _take(seen, path, read(content), digest, before.get(path.decode("latin-1"), []))


def _take(seen: _Seen, path: bytes, data: bytes, layer: Digest, before: list[Package]) -> None:
    """Add what the file at *path* says; what it said *before*, in a lower layer, stays that layer's."""
    name = path.decode("latin-1")
    found = databases.distribution(path, data)
    if found is not None:
        seen.distributions[name] = found
    elif databases.is_copyright(path):
        seen.licences[name] = list(licences.of_copyright(data.decode("utf-8", "replace")))
    else:
        layers = {(item.name, item.version): item.layer for item in before}
        packages = databases.packages(path, data, layer)
        seen.packages[name] = [replace(item, layer=layers.get((item.name, item.version), layer)) for item in packages]


def _contents(seen: _Seen) -> Contents:
    """Join what the files say: the lowest layer wins, a Debian package gets the licences of its copyright file."""
    packages: dict[tuple[PackageKind, str, str, str], Package] = {}
    for name in sorted(seen.packages):
        for item in seen.packages[name]:
            found = item
            if item.kind is PackageKind.DEB:
                said = seen.licences.get(f"usr/share/doc/{item.name}/copyright", ())
                found = replace(item, licences=tuple(said))
            packages.setdefault((item.kind, item.name, item.version, item.architecture), found)
    distribution = next((seen.distributions[name] for name in sorted(seen.distributions)), Distribution())
    return Contents(packages=tuple(sorted(packages.values())), distribution=distribution)
