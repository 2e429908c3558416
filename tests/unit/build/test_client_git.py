"""The command line's side: what is sent of a user's repository, and that nothing in it changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stelae.build import client_git
from stelae.build.mirror import Mirror
from stelae.domain.errors import Failed, InvalidInput

from .repository import Repository, git_in


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below *folder* with its content and time of change (git renews that of objects it meets again)."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), 0 if "objects" in path.parts else path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def packed(checkout: client_git.Checkout) -> client_git.Pack:
    return client_git.Pack(checkout, checkout.objects())


def test_describes_a_clean_commit(repository: Repository) -> None:
    commit = repository.commit({"app/a": "1", ".gitignore": "*.log\n"}, "Add it")
    repository.write({"app/noise.log": "ignored"})
    checkout = client_git.describe(repository.folder / "app")
    assert (checkout.commit, checkout.path, checkout.subject, checkout.dirty) == (commit, "app", "Add it", ())
    assert checkout.versioned
    client_git.refuse_dirty(checkout)


@pytest.mark.parametrize(
    "message",
    [
        "Add it", "Two lines\nof one paragraph\n\nand a body", "\n\n  late and indented  \n", "", "Grüße\n",
        "tab\tin it", "head: no\n\nencoding latin-1\n",
    ],
)  # fmt: skip
def test_the_subject_is_as_git_shows_it(repository: Repository, message: str) -> None:
    repository.write({"a": message})
    repository.git("add", "a")
    for encoding in ("utf-8", "iso-8859-1", "unheard-of"):
        words = ("-c", f"i18n.commitEncoding={encoding}", "commit", "-q", "--allow-empty", "--allow-empty-message")
        repository.git(*words, "--cleanup=verbatim", "-m", message)
        assert client_git.describe(repository.folder).subject == repository.git("log", "-1", "--format=%s")


def test_the_objects_are_what_git_lists(repository: Repository) -> None:
    files = {f"app/{n % 7}/{n % 3}/f{n}": str(n % 50) for n in range(400)}
    repository.commit({**files, "other/a": "not ours", "b": "1"})
    for folder, listed in (("", "HEAD"), ("app", "HEAD:app"), ("app/1/2", "HEAD:app/1/2")):
        above = [folder.rpartition("/")[0], folder] if folder else []
        trees = {repository.git("rev-parse", f"HEAD:{path}") for path in ("", "app", *above) if path in folder}
        below = {line.split()[2] for line in repository.git("ls-tree", "-r", "-t", listed).splitlines()}
        found = client_git.describe(repository.folder / folder).objects()
        assert set(found) == {repository.git("rev-parse", "HEAD"), *trees, *below}
        assert len(set(found)) == len(found)


def test_a_branch_that_moves_on_while_git_is_asked(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit({"a": "1"})
    asked = client_git.Asked(str(repository.folder), "HEAD")
    commit, tree = asked._objects._next(), asked._objects._next()
    assert commit is not None
    assert tree is not None
    answers = iter([commit, ("0" * 40, b"")])  # the tree of another commit
    real = asked._objects._next
    monkeypatch.setattr(asked._objects, "_next", lambda: next(answers, None) or real())
    assert set(asked.checkout().objects()) == {commit[0], tree[0], repository.git("rev-parse", "HEAD:a")}


def test_what_git_cannot_pack_is_said(repository: Repository) -> None:
    repository.commit({"a": "1"})
    checkout = client_git.describe(repository.folder)
    with client_git.Pack(checkout, ["0" * 40]) as pack, pytest.raises(Failed, match="could not pack") as caught:
        list(iter(lambda: pack.read(100), b""))
    assert "unable to read 000" in " ".join(caught.value.details)


def test_a_dirty_tree_is_refused_with_its_files(repository: Repository) -> None:
    repository.commit({"app/a": "1", "app/gone": "2", "other/c": "3"})
    repository.write({"app/a": "changed", "app/sub/new file": "x", "other/c": "not ours"})
    (repository.folder / "app/gone").unlink()
    checkout = client_git.describe(repository.folder / "app")
    assert checkout.dirty == ("app/a", "app/gone", "app/sub/new file")
    with pytest.raises(InvalidInput) as caught:
        client_git.refuse_dirty(checkout)
    assert "--dirty" in caught.value.hint
    assert "3 files differ from commit" in caught.value.message
    assert caught.value.details == checkout.dirty
    with pytest.raises(InvalidInput) as caught:
        client_git.refuse_dirty(checkout, "say it otherwise")
    assert caught.value.hint == "say it otherwise"


def test_another_ref_is_not_dirty(repository: Repository) -> None:
    first = repository.commit({"a": "1"}, "First")
    repository.commit({"a": "2"}, "Second")
    repository.write({"a": "3"})
    checkout = client_git.describe(repository.folder, "HEAD~1")
    assert (checkout.commit, checkout.subject, checkout.dirty) == (first, "First", ())


def test_clear_errors(repository: Repository, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(InvalidInput, match="not inside a git repository"):
        client_git.describe(outside)
    with pytest.raises(InvalidInput, match="no such folder"):
        client_git.describe(tmp_path / "missing")
    with pytest.raises(InvalidInput, match="no commit yet"):
        client_git.describe(repository.folder)
    repository.commit({"a": "1"})
    for ref in ("nothing", "--all", "HEAD:a", "HEAD\nHEAD", "HEAD^{tree}"):
        with pytest.raises(InvalidInput, match="no commit is called"):
            client_git.describe(repository.folder, ref)
    repository.write({"new/a": "1"})
    with pytest.raises(InvalidInput, match="no folder 'new'"):
        client_git.describe(repository.folder / "new").objects()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to another user")
def test_a_repository_of_another_user(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit({"a": "1"})
    for path in (repository.folder, repository.folder / ".git"):
        os.chown(path, 12345, 12345)
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    with pytest.raises(InvalidInput, match="belongs to another user") as caught:
        client_git.describe(repository.folder)
    assert "safe.directory" in caught.value.hint


def test_a_snapshot_changes_nothing_and_is_repeatable(repository: Repository, tmp_path: Path) -> None:
    repository.commit({"app/a": "1", "app/gone": "2", ".gitignore": "*.log\n"})
    repository.write({"app/a": "changed", "app/new": "x", "app/noise.log": "ignored"})
    repository.git("add", "app/new")
    (repository.folder / "app/gone").unlink()
    before = state_of(repository.folder)
    store = Mirror(tmp_path / "sources")
    with client_git.snapshot(repository.folder / "app") as checkout, packed(checkout) as pack:
        store.receive(checkout.repository, pack)
    assert state_of(repository.folder) == before
    assert not checkout.versioned
    with store.read(checkout.repository) as reader:
        entries = store.export(checkout.repository, store.tree(reader, checkout.commit, "app"))
    assert [entry.path for entry in entries] == [b"a", b"new"]
    with client_git.snapshot(repository.folder / "app") as again:
        assert again.commit == checkout.commit


def test_a_snapshot_before_the_first_commit(repository: Repository) -> None:
    repository.write({"a": "1"})
    with client_git.snapshot(repository.folder) as checkout:
        assert len(checkout.objects()) == 3


def test_shallow_clones_work(repository: Repository, tmp_path: Path) -> None:
    for n in range(3):
        repository.commit({"a": str(n)})
    git_in(tmp_path)("clone", "-q", "--depth=1", repository.folder.as_uri(), "clone")
    checkout = client_git.describe(tmp_path / "clone")
    with packed(checkout) as pack:
        assert Mirror(tmp_path / "sources").receive(checkout.repository, pack) == 3


def test_clones_of_one_origin_share_a_mirror(repository: Repository, tmp_path: Path) -> None:
    repository.commit({"a": "1"})
    alone = client_git.describe(repository.folder).repository
    assert alone.startswith("my-app-")
    ids = set()
    for url in (
        "https://ana:secret@git.example.com/team/shop.git",
        "git@git.example.com:team/shop",
        "ssh://git@git.example.com/team/shop/",
    ):
        repository.git("config", "remote.origin.url", url)
        ids.add(client_git.describe(repository.folder).repository)
    assert len(ids) == 1
    assert alone not in ids


def test_a_hook_of_the_user_that_calls_us_does_not_confuse_us(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit({"a": "1"})
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent/index")
    assert client_git.describe(repository.folder).commit == commit


def test_what_is_small_is_packed_without_another_git(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"app/{n % 7}/f{n}": f"{n}" * (n * 50) for n in range(40)}
    repository.commit({**files, "app/empty": "", "app/large": "x" * 70_000, "other/a": "not ours"})
    checkout = client_git.Asked(str(repository.folder / "app"), "HEAD").checkout(keep=True)
    monkeypatch.setattr(client_git, "Pack", None)
    mirror = Mirror(tmp_path)
    try:
        with checkout.pack(checkout.objects()) as pack:
            assert mirror.receive("app", pack) == len(checkout.objects())
    finally:
        checkout.close()
    assert mirror.missing("app", checkout.objects()) == []
    again = client_git.Asked(str(repository.folder / "app"), "HEAD").checkout(keep=True)
    try:
        some = again.objects()[3:9]
        with again.pack(some) as pack:
            assert Mirror(tmp_path / "other").receive("app", pack) == len(some)
    finally:
        again.close()


@pytest.mark.parametrize("what", ["many", "large", "not kept", "damaged"])
def test_what_is_not_small_is_packed_by_git(what: str, repository: Repository, tmp_path: Path) -> None:
    count = 150 if what == "many" else 1
    repository.commit({f"f{n}": f"{n}" * (5_000_000 if what == "large" else 1) for n in range(count)})
    checkout = client_git.Asked(str(repository.folder), "HEAD").checkout(keep=what != "not kept")
    try:
        if what == "damaged":
            name = checkout.objects()[-1]
            (repository.folder / ".git/objects" / name[:2] / name[2:]).unlink()
        with checkout.pack(checkout.objects()) as pack:
            assert isinstance(pack, client_git.Pack)
            if what == "damaged":
                with pytest.raises(Failed, match="could not pack"):
                    pack.read(1)
            else:
                assert Mirror(tmp_path).receive("app", pack) == len(checkout.objects())
    finally:
        checkout.close()


def test_no_git_is_left_where_nothing_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    asked = client_git.Asked(str(tmp_path), "HEAD")
    with pytest.raises(InvalidInput, match="not inside a git repository"):
        asked.checkout(keep=True)
    assert asked._objects._process.stdout.closed
