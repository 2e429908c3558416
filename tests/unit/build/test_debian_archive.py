"""What Debian's archive answers, in words; which packages a base is made of; and what the store of inputs gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stelae.build import debian, debian_archive
from stelae.build.cache import Cache, Made
from stelae.build.deb_store import Debs
from stelae.build.debian_archive import GoneError, Offer
from stelae.build.debian_base import make_debian_base
from stelae.build.inputs import Inputs, told
from stelae.build.lock import StageLock
from stelae.build.wish import Wish
from stelae.domain.digest import digest_of
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.domain.inputs import Input, InputKind
from stelae.images.layout import Layout
from stelae.images.tree import Tree, file

FIRST, SECOND = "2026-01-02T03:04:05Z", "2026-03-01T00:00:00Z"


def deb(name: str, version: str = "1:1.0") -> Input:
    data = f"{name} {version}".encode()
    return Input(kind=InputKind.DEB, name=name, version=version, architecture="amd64", digest=digest_of(data))


class Archive:
    """An archive that offers ``debs`` and counts what it is asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.debs = [deb("bash"), deb("libc6")]
        self.date = FIRST
        self.resolved: list[tuple[Sequence[str], list[Input]]] = []
        self.fetched: list[str] = []
        self.gone: set[str] = set()
        self.installed: list[dict[str, bytes]] = []
        self.inputs = Inputs(folder / "inputs")
        self.cache = Cache(folder / "cache", Layout.open(folder / "images"))
        self.folder = folder
        self.count = 0
        monkeypatch.setattr(debian_archive, "resolve", self._resolve)
        monkeypatch.setattr(debian_archive, "fetch", self._fetch)
        monkeypatch.setattr(debian, "make", self._make)

    def base(self, locked: StageLock | None = None, wish: Wish = Wish.LOCKED, packages: tuple[str, ...] = ()) -> Made:
        self.count += 1
        work = self.folder / f"work{self.count}"
        work.mkdir()
        return make_debian_base(self.cache, "bookworm", packages, self.inputs, locked, work, print, wish=wish)

    def lock(self, made: Made) -> StageLock:
        return StageLock(base="debian:bookworm", inputs=told(made.facts), archive=made.facts["archive"])

    def put(self, item: Input) -> None:
        self.inputs.blobs.add(f"{item.name} {item.version}".encode())

    def forget(self, item: Input) -> None:
        self.inputs.blobs.path(item.digest).unlink()

    def _resolve(
        self, suite: str, packages: Sequence[str], kept: Mapping[Input, Path], inputs: Inputs, *_: Any
    ) -> Offer:
        assert suite == "bookworm"
        self.resolved.append((packages, list(kept)))
        kept_names = {item.name: item for item in kept}
        for item in self.debs:
            self.put(item)
        return Offer(debs=tuple(sorted(kept_names.get(item.name, item) for item in self.debs)), archive=self.date)

    def _fetch(self, suite: str, missing: Sequence[Input], *_: Any) -> None:
        self.fetched += [item.name for item in missing]
        gone = [item for item in missing if item.name in self.gone]
        if gone:
            raise GoneError(f"the archive has {gone[0].name} {gone[0].version} no more")
        for item in missing:
            self.put(item)

    def _make(self, suite: str, packages: Mapping[Input, Path], *_: Any) -> Tree:
        found = {path.name: path.read_bytes() for path in packages.values()}
        self.installed.append(found)
        tree = Tree()
        for name, data in found.items():
            tree.put(b"debs/" + name.encode(), file(data))
        return tree


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    return Archive(tmp_path, monkeypatch)


def test_a_base_without_a_lock_is_resolved_once(archive: Archive) -> None:
    first = archive.base()
    assert told(first.facts) == (deb("bash"), deb("libc6"))
    assert first.facts["archive"] == FIRST
    assert archive.installed == [{
        "bash_1%3a1.0_amd64.deb": b"bash 1:1.0", "libc6_1%3a1.0_amd64.deb": b"libc6 1:1.0"
    }]  # fmt: skip
    archive.debs, archive.date = [deb("bash", "2"), deb("libc6")], SECOND
    again = archive.base()
    assert again.cached
    assert (again.layers, again.facts) == (first.layers, first.facts)
    assert len(archive.resolved) == 1


def test_what_was_resolved_without_a_lock_and_is_gone_is_resolved_anew(archive: Archive) -> None:
    first = archive.base()
    archive.debs, archive.date, archive.gone = [deb("bash", "2"), deb("libc6")], SECOND, {"bash"}
    assert archive.base().cached, "as long as the layer is there, no file is missed"
    archive.forget(deb("bash"))
    archive.cache.layout.blob_path(first.layers[0].digest).unlink()
    again = archive.base()
    assert archive.fetched == ["bash"]
    assert (told(again.facts), again.facts["archive"]) == ((deb("bash", "2"), deb("libc6")), SECOND)
    assert archive.base().facts == again.facts, "that is kept to from now on"
    assert len(archive.resolved) == 2
    archive.cache.layout.blob_path(again.layers[0].digest).unlink()
    with pytest.raises(GoneError, match=r"bash 1:1\.0 no more"):
        archive.base(archive.lock(first))


def test_a_locked_base_asks_no_archive(archive: Archive) -> None:
    first = archive.base()
    locked = archive.lock(first)
    archive.debs = [deb("bash", "2"), deb("libc6", "2")]
    archive.inputs.offline = True
    assert archive.base(locked).cached
    other = Archive.__new__(Archive)
    other.__dict__ = {**archive.__dict__, "cache": Cache(archive.folder / "cache2", archive.cache.layout)}
    made = other.base(locked)
    assert not made.cached
    assert (made.layers, made.facts) == (first.layers, first.facts)
    assert len(archive.resolved) == 1


def test_a_package_of_the_same_version_with_other_bytes_makes_another_base(archive: Archive) -> None:
    first = archive.base()
    other = replace(deb("bash"), digest=archive.inputs.blobs.add(b"other bytes"))
    again = archive.base(replace(archive.lock(first), inputs=(other, deb("libc6"))))
    assert not again.cached
    assert again.layers != first.layers
    assert told(again.facts) == (other, deb("libc6"))


def test_what_the_store_lacks_is_fetched_by_its_version(archive: Archive) -> None:
    locked = StageLock(base="debian:bookworm", inputs=(deb("bash"), deb("libc6")))
    archive.put(deb("libc6"))
    archive.base(locked)
    assert archive.fetched == ["bash"]
    assert archive.resolved == []


def test_offline_says_what_is_missing(archive: Archive) -> None:
    archive.inputs.offline = True
    with pytest.raises(Unreachable, match="bookworm"):
        archive.base()
    with pytest.raises(Unreachable, match=r"bash 1:1\.0 and 1 more"):
        archive.base(StageLock(base="debian:bookworm", inputs=(deb("bash"), deb("libc6"))))
    assert archive.fetched == []


def test_a_damaged_file_in_the_store_is_not_installed(archive: Archive) -> None:
    archive.put(deb("bash"))
    path = archive.inputs.blobs.path(deb("bash").digest)
    path.chmod(0o644)
    path.write_bytes(b"changed")
    with pytest.raises(Failed, match="corrupted"):
        archive.base(StageLock(base="debian:bookworm", inputs=(deb("bash"),)))
    assert archive.installed == []


def test_a_new_lock_keeps_what_is_locked(archive: Archive) -> None:
    locked = archive.lock(archive.base())
    archive.debs, archive.date = [deb("bash", "2"), deb("libc6", "2"), deb("python3", "3")], SECOND
    kept = archive.base(locked, Wish.KEEP, ("python3",))
    assert archive.resolved[-1] == (("python3",), [deb("bash"), deb("libc6")])
    assert told(kept.facts) == (deb("bash"), deb("libc6"), deb("python3", "3"))
    assert kept.facts["archive"] == SECOND
    newest = archive.base(locked, Wish.NEWEST, ("python3",))
    assert archive.resolved[-1] == (("python3",), [])
    assert told(newest.facts) == (deb("bash", "2"), deb("libc6", "2"), deb("python3", "3"))


def test_a_new_lock_of_the_same_recipe_is_the_same(archive: Archive) -> None:
    locked = archive.lock(archive.base())
    archive.debs, archive.date = [deb("bash", "2"), deb("libc6", "2")], SECOND
    archive.inputs.offline = True
    assert archive.lock(archive.base(locked, Wish.KEEP)) == locked
    assert len(archive.resolved) == 1, "the archive was not asked"
    archive.inputs.offline = False
    assert archive.lock(archive.base(locked, Wish.NEWEST)) != locked
    # Fewer packages come from the same archive, too.
    archive.debs = [deb("bash", "2")]
    assert archive.base(replace(locked, packages=("python3",)), Wish.KEEP).facts["archive"] == FIRST
    assert len(archive.resolved) == 3


def test_what_is_locked_of_another_suite_or_machine_is_not_kept(archive: Archive) -> None:
    locked = archive.lock(archive.base())
    archive.base(replace(locked, base="debian:trixie"), Wish.KEEP)
    foreign = replace(deb("bash"), architecture="s390x")
    archive.base(replace(locked, inputs=(foreign,)), Wish.KEEP)
    assert [kept for _, kept in archive.resolved[1:]] == [[], []]


def test_another_digest_of_the_same_version_is_noticed(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path / "inputs")
    wrong = tmp_path / "wrong.deb"
    wrong.write_bytes(b"other")
    with pytest.raises(InvalidInput, match="another digest"):
        inputs.get(deb("bash"), lambda: wrong)
    assert inputs.find(deb("bash").digest) is None


def test_files_are_for_everybody_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = Inputs(tmp_path / "inputs")
    inputs.blobs.add(b"bash 1:1.0")
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("another file system")))
    (path,) = Debs(inputs, tmp_path, "bookworm", print).files([deb("bash")]).values()
    assert path.read_bytes() == b"bash 1:1.0"
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_date_is_that_of_the_newest_part() -> None:
    dates = ("Sat, 11 Oct 2025 08:10:12 UTC", "Sat, 21 Nov 2026 02:10:46 UTC", "Fri, 20 Nov 2026 23:59:59 UTC")
    assert debian_archive._newest("".join(f"Date: {date}\n" for date in dates)) == "2026-11-21T02:10:46Z"
    with pytest.raises(Failed):
        debian_archive._newest("")
    assert debian_archive.age(FIRST, SECOND) == 57
    assert debian_archive.age(SECOND, FIRST) < 0


@pytest.mark.parametrize(
    ("lines", "status", "kind", "words"),
    [
        (["E: Unable to locate package pyhton3"], 100, InvalidInput, "no package called pyhton3"),
        (["E: Package 'x' has no installation candidate"], 100, InvalidInput, "no package called x"),
        (["E: The repository 'a' does not have a Release file."], 25, InvalidInput, "no suite"),
        (["E: Failed to fetch a", "E: 'a' does not have a Release file."], 25, Unreachable, "does not answer"),
        (["W: Failed to fetch a  Could not resolve 'b'"], 25, Unreachable, "does not answer"),
        (["tar: write: No space left on device"], 2, Failed, "disk is full"),
        (["sh: 1: exec: mmdebstrap: not found"], 127, Unreachable, "not installed"),
        (["E: Version '1.2' for 'curl' was not found"], 100, GoneError, "curl 1.2 no more"),
        (["The following packages have unmet dependencies:"], 100, Failed, "do not fit together"),
        ([], 124, Failed, "did not end"),
        (["E: something else"], 25, Failed, "status 25"),
    ],
)
def test_errors_in_words(lines: list[str], status: int, kind: type[Exception], words: str) -> None:
    error = debian_archive._error("bookworm", status, lines)
    assert type(error) is kind
    assert words in str(error)


def test_a_lock_of_another_base_of_the_same_name_makes_another_layer(archive: Archive) -> None:
    first = archive.base(StageLock(base="debian:bookworm", inputs=(deb("bash"), deb("libc6"))))
    other = replace(deb("bash"), version="2", digest=deb("bash", "2").digest)
    second = archive.base(StageLock(base="debian:bookworm", inputs=(other, deb("libc6"))))
    assert first.layers != second.layers


def test_what_mmdebstrap_says_of_itself_is_left_out() -> None:
    said = "E: Failed to fetch http://a/InRelease  Temporary failure resolving 'a'"
    error = debian_archive._error("bookworm", 25, ["I: using /x", said, "E: command failed: x", "I: removing /x"])
    assert error.details == (said,)
