"""The mirror: packs in, checked objects out."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path

import pytest

from stelae.build import client_git, mirror
from stelae.build.mirror import Mirror
from stelae.build.spool import Spool
from stelae.domain.errors import InvalidInput, StelaeError

from .repository import Repository


def send(store: Mirror, repository: Repository, ref: str = "HEAD", folder: str = "") -> client_git.Checkout:
    checkout = client_git.describe(repository.folder / folder, ref)
    needed = store.missing(checkout.repository, checkout.objects())
    if needed:
        with client_git.Pack(checkout, needed) as pack:
            assert store.receive(checkout.repository, pack) == len(needed)
    return checkout


def pack_of(*objects: tuple[int, bytes]) -> io.BytesIO:
    """A git pack by hand: (kind, content) with kind 1 commit, 2 tree, 3 blob."""
    body = b"PACK" + struct.pack(">II", 2, len(objects))
    for kind, content in objects:
        size = len(content)
        byte = (kind << 4) | (size & 15)
        size >>= 4
        while size:
            body += bytes([byte | 0x80])
            byte, size = size & 0x7F, size >> 7
        body += bytes([byte]) + zlib.compress(content)
    return io.BytesIO(body + hashlib.sha1(body).digest())


def tree_of(*entries: tuple[str, bytes]) -> bytes:
    return b"".join(
        mode.encode() + b" " + name + b"\0" + hashlib.sha1(b"blob 1\0x").digest() for mode, name in entries
    )


def tree_id(tree: bytes) -> str:
    return hashlib.sha1(b"tree %d\0" % len(tree) + tree).hexdigest()


def test_commit_arrives_and_is_read_back(repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit({"app/run.sh": "x", "app/a.py": "print()", "other/big": "y"}, "Add the app")
    (repository.folder / "app" / "run.sh").chmod(0o755)
    (repository.folder / "app" / "link").symlink_to("a.py")
    commit = repository.commit({}, "Add the app")
    store = Mirror(tmp_path / "sources")
    checkout = send(store, repository, folder="app")
    assert checkout.path == "app"
    with store.read(checkout.repository) as reader:
        tree = store.tree(reader, commit, "app")
        entries = store.export(checkout.repository, tree)
        assert [(entry.path, entry.mode) for entry in entries] == [
            (b"a.py", 0o100644), (b"link", 0o120000), (b"run.sh", 0o100755)
        ]  # fmt: skip
        read = list(reader.contents([entry.blob for entry in entries], Spool(tmp_path / "spool")))
    assert read == [b"print()", b"a.py", b"x"]
    info = store.commit_info(checkout.repository, commit)
    assert (info.subject, info.author, info.time) == ("Add the app", "Ana <ana@example.com>", 1700000000)
    assert store.missing(checkout.repository, checkout.objects()) == []


def test_only_what_is_missing_is_sent_and_siblings_are_not(repository: Repository, tmp_path: Path) -> None:
    repository.commit({"app/a": "1", "app/b": "2", "other/c": "3"})
    store = Mirror(tmp_path)
    first = send(store, repository, folder="app")
    sibling = repository.git("rev-parse", "HEAD:other/c")
    assert store.missing(first.repository, [sibling]) == [sibling]
    repository.commit({"app/a": "changed"})
    second = client_git.describe(repository.folder / "app")
    # The commit, the top, the folder and the one file; not b.
    assert len(store.missing(second.repository, second.objects())) == 4


def test_many_packs_become_one(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "MANY_PACKS", 2)
    store = Mirror(tmp_path)
    sent = []
    for n in range(5):
        repository.commit({"file": str(n)})
        sent.append(send(store, repository))
    assert len(list((tmp_path / f"{sent[0].repository}.git/objects/pack").glob("*.pack"))) <= 3
    with store.read(sent[0].repository) as reader:
        assert [store.export(c.repository, store.tree(reader, c.commit, ""))[0].size for c in sent] == [1] * 5


def test_what_is_missing_is_what_git_says_is_missing(repository: Repository, tmp_path: Path) -> None:
    store = Mirror(tmp_path)
    ids: list[str] = []
    for n in range(3):
        repository.commit({f"{n}/f{i}": f"{n} {i}" for i in range(300)})
        ids += send(store, repository).objects()
    name = send(store, repository).repository
    others = [digit * 40 for digit in "0123456789abcdef"]
    near = [f"{int(found, 16) ^ 1:040x}" for found in ids[:300]]
    assert store.missing(name, [*others, *ids, *near]) == [*others, *near]
    folder = tmp_path / f"{name}.git" / "objects" / "pack"
    (folder / "pack-broken.idx").write_bytes(b"\xfftOc\0\0\0\2 and little more")
    (folder / "pack-empty.idx").write_bytes(b"")
    (folder / "pack-old.idx").write_bytes(bytes(2000))
    (folder / "pack-gone.idx").symlink_to("nowhere")
    assert store.missing(name, [*ids, *others]) == others


@pytest.mark.parametrize(
    "pack",
    [
        io.BytesIO(b""),
        io.BytesIO(b"not a pack at all, but long enough to be looked at"),
        io.BytesIO(pack_of((3, b"x")).getvalue()[:-1] + b"\0"),
        pack_of((2, tree_of(("100644", b"..")))),
        pack_of((2, tree_of(("100644", b"a/b")))),
        pack_of((2, tree_of(("40000", b".git")))),
        pack_of((2, tree_of(("100644", b"b"), ("100644", b"a")))),
        pack_of((1, b"tree nothing\n\n")),
    ],
    ids=["empty", "text", "checksum", "dotdot", "slash", "dotgit", "unsorted", "commit"],
)
def test_hostile_packs_are_refused_and_leave_nothing(pack: io.BytesIO, tmp_path: Path) -> None:
    pack.seek(0)
    with pytest.raises(InvalidInput):
        Mirror(tmp_path).receive("app", pack)
    left = [path.name for path in (tmp_path / "app.git").rglob("*") if path.is_file()]
    assert sorted(left) == ["HEAD", "config"]


def test_a_pack_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "MAX_PACK", 10)
    with pytest.raises(InvalidInput, match="larger than"):
        Mirror(tmp_path).receive("app", pack_of((3, b"x")))


def test_a_file_over_the_limit_is_refused(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit({"deep/large.bin": "x" * 100})
    store = Mirror(tmp_path)
    checkout = send(store, repository)
    monkeypatch.setattr(mirror, "MAX_FILE", 99)
    with store.read(checkout.repository) as reader:
        tree = store.tree(reader, checkout.commit, "")
    with pytest.raises(InvalidInput) as caught:
        store.export(checkout.repository, tree)
    assert caught.value.where == "deep/large.bin"


def test_what_was_not_sent_is_named(repository: Repository, tmp_path: Path) -> None:
    repository.commit({"a": "1"})
    store = Mirror(tmp_path)
    with pytest.raises(InvalidInput, match="no source of repository"), store.read("other"):
        pass
    checkout = send(store, repository)
    with store.read(checkout.repository) as reader:
        with pytest.raises(InvalidInput, match="was not sent"):
            store.tree(reader, "0" * 40, "")
        with pytest.raises(InvalidInput, match="no folder 'nowhere'"):
            store.tree(reader, checkout.commit, "nowhere")
        with pytest.raises(InvalidInput, match="no folder 'a'"):
            store.tree(reader, checkout.commit, "a")
    lonely = tree_of(("40000", b"gone"))
    store.receive("app", pack_of((2, lonely)))
    with pytest.raises(InvalidInput, match="was not sent"):
        store.export("app", tree_id(lonely))


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "A", "a" * 101, "a..b", "-x", "a\n"])
def test_repository_ids_cannot_leave_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        Mirror(tmp_path).receive(name, pack_of((3, b"x")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["HEAD", "", "--all", "g" * 40, "0" * 39, "0" * 40 + "\n"])
def test_object_ids_are_whole_ids(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        Mirror(tmp_path).missing("app", [name])


def test_hooks_and_configuration_have_no_say(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A user's attributes, smudge filters and end-of-line settings would change the bytes of a checkout.
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text('[core]\n\tautocrlf = true\n[filter "bad"]\n\tsmudge = echo bad\n')
    monkeypatch.setenv("HOME", str(home))
    commit = repository.commit(
        {".gitattributes": "* text filter=bad export-subst export-ignore\n", "a": "$Format:%H$\n"}
    )
    store = Mirror(tmp_path / "sources")
    checkout = send(store, repository)
    with store.read(checkout.repository) as reader:
        entries = store.export(checkout.repository, store.tree(reader, commit, ""))
        assert [entry.path for entry in entries] == [b".gitattributes", b"a"]
        found = reader.get(entries[1].blob)
    assert found is not None
    assert found.data == b"$Format:%H$\n"


def test_git_refuses_to_prune_a_mirror(repository: Repository, tmp_path: Path) -> None:
    repository.commit({"a": "1"})
    store = Mirror(tmp_path)
    checkout = send(store, repository)
    with pytest.raises(StelaeError):
        mirror.git.git(tmp_path / f"{checkout.repository}.git", "prune", "--expire=now")
    assert store.missing(checkout.repository, [checkout.commit]) == []


@pytest.mark.parametrize(("given", "normal"), [("", ""), (".", ""), ("a//b/./c/", "a/b/c"), ("a b", "a b")])
def test_paths_have_one_form(given: str, normal: str) -> None:
    assert mirror.check_path(given) == normal


@pytest.mark.parametrize("given", ["/a", "a/../b", "..", "a\nb", "a\0b"])
def test_paths_stay_inside(given: str) -> None:
    with pytest.raises(InvalidInput):
        mirror.check_path(given)
