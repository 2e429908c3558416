"""Which wheels a build takes: by name, by lock, from the store, and only then from pip."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from stelae.build import wheel_store
from stelae.build.cache import Cache
from stelae.build.inputs import Inputs
from stelae.build.python_target import Target
from stelae.build.requirements import Pinned
from stelae.build.wheel_store import Wheels, wheel_input
from stelae.domain.digest import Digest
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.domain.inputs import Input
from stelae.images.layout import Layout

from .test_wheels import TARGET, wheel

TAGS = ("py3-none-any", "cp311-cp311-manylinux_2_17_x86_64", "cp312-cp312-manylinux_2_17_x86_64")
PURE = 0


class Index:
    """Wheels that "pip" gives; ``asked`` are the requirements that it was given."""

    def __init__(self, folder: Path) -> None:
        self.files = [wheel(folder / "index", {"demo.py": tag.encode()}, tag) for tag in TAGS]
        self.asked: list[str] = []
        self.gives = self.files[PURE]

    def download(
        self, wanted: Sequence[Pinned], target: Target, work: Path, credentials: Mapping[str, Path]
    ) -> tuple[Path, ...]:
        self.asked += [pinned.line for pinned in wanted]
        return (Path(shutil.copy(self.gives, work)),)

    def pinned(self, *numbers: int, names: bool = True) -> Pinned:
        files = [self.files[number] for number in numbers]
        hashes = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
        return Pinned(
            name="demo", version="1.0", hashes=hashes, files=tuple(path.name for path in files) if names else ()
        )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    made = Index(tmp_path)
    monkeypatch.setattr(wheel_store, "download", made.download)
    return made


def wheels(folder: Path, *, offline: bool = False) -> Wheels:
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    return Wheels(
        cache=Cache(folder / "cache", Layout.open(folder / "images")), target=TARGET, work=work, credentials={},
        inputs=Inputs(folder / "inputs", offline=offline), progress=lambda _: None,
    )  # fmt: skip


def item(pinned: Pinned, number: int = 0, file: str = "") -> Input:
    return wheel_input("demo", "1.0", file or pinned.files[number], Digest(f"sha256:{pinned.hashes[number]}"))


def test_a_lock_with_names_is_settled_without_pip(index: Index, tmp_path: Path) -> None:
    (found,) = wheels(tmp_path).choose([index.pinned(0, 1, 2)], None)
    assert found.file == "demo-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    with pytest.raises(InvalidInput, match=r"demo 1\.0 has no wheel for Python 3\.11"):
        wheels(tmp_path).choose([index.pinned(2)], None)
    assert index.asked == []


def test_pip_is_asked_once_for_a_lock_without_names(index: Index, tmp_path: Path) -> None:
    pinned = index.pinned(0, 2, names=False)
    first = wheels(tmp_path).choose([pinned], None)
    assert first == (item(index.pinned(0)),)
    assert wheels(tmp_path, offline=True).choose([pinned], None) == first
    assert index.asked == [pinned.line]
    # Also when the step is forgotten, but what was lost from the store is asked for again.
    Inputs(tmp_path / "inputs").blobs.path(first[0].digest).unlink()
    with pytest.raises(Unreachable, match="offline"):
        wheels(tmp_path, offline=True).choose([pinned], None)
    wheels(tmp_path).choose([pinned], None)
    assert len(index.asked) == 2


def test_pip_gives_something_else(index: Index, tmp_path: Path) -> None:
    index.gives = index.files[1]
    with pytest.raises(Failed, match=r"no wheel of demo 1\.0"):
        wheels(tmp_path).choose([index.pinned(0, names=False)], None)
    pinned = index.pinned(0)
    with pytest.raises(Failed, match="gave another wheel"):
        wheels(tmp_path).bring([item(pinned)], [pinned])


def test_the_locked_wheel_is_taken_though_another_fits_better(index: Index, tmp_path: Path) -> None:
    pinned = index.pinned(0, 1)
    assert wheels(tmp_path).choose([pinned], [item(pinned)]) == (item(pinned),)
    for wanted, locked, words in (
        ([pinned], [], r"demo 1\.0 is not locked"),
        ([index.pinned(1)], [item(pinned)], r"demo 1\.0 locked, 1\.0 of other files needed now"),
        ([], [item(pinned)], r"demo 1\.0 locked, not needed now"),
        ([index.pinned(2)], [item(index.pinned(2))], r"is not for the Python 3\.11\.0 of the base"),
    ):
        with pytest.raises(InvalidInput, match=f"stelae.lock is stale: .*{words}") as caught:
            wheels(tmp_path).choose(wanted, locked)
        assert "stelae lock" in caught.value.hint
    with pytest.raises(InvalidInput, match="not the name of a wheel"):
        wheels(tmp_path).choose([pinned], [item(pinned, file="demo.zip")])


def test_what_is_in_the_store_is_not_downloaded(index: Index, tmp_path: Path) -> None:
    pinned = index.pinned(0, 1)
    with pytest.raises(Unreachable, match=r"the wheel of demo 1\.0 is not in the store"):
        wheels(tmp_path, offline=True).bring([item(pinned)], [pinned])
    (path,) = wheels(tmp_path).bring([item(pinned)], [pinned])
    assert path.name == pinned.files[0]
    assert path.read_bytes() == index.files[0].read_bytes()
    # Exactly the chosen one is asked for, although the lock allows others.
    assert index.asked == [f"demo==1.0 --hash=sha256:{pinned.hashes[0]}"]
    wheels(tmp_path, offline=True).bring([item(pinned)], [pinned])


def test_bytes_that_the_disk_changed_are_downloaded_again(index: Index, tmp_path: Path) -> None:
    pinned = index.pinned(0)
    wheels(tmp_path).bring([item(pinned)], [pinned])
    blob = Inputs(tmp_path / "inputs").blobs.path(item(pinned).digest)
    blob.chmod(0o600)
    blob.write_bytes(b"changed")
    (path,) = wheels(tmp_path).bring([item(pinned)], [pinned])
    assert path.read_bytes() == index.files[0].read_bytes()
    assert len(index.asked) == 2
