"""The command line's side: what is sent of a user's repository, and that nothing in it changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stelae.build import client_git
from stelae.build.mirror import Mirror
from stelae.domain.errors import InvalidInput

from .repository import Repository, git_in


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below *folder* with its content and time of change (git renews that of objects it meets again)."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), 0 if "objects" in path.parts else path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def test_describes_a_clean_commit(repository: Repository) -> None:
    commit = repository.commit({"app/a": "1", ".gitignore": "*.log\n"}, "Add it")
    repository.write({"app/noise.log": "ignored"})
    checkout = client_git.describe(repository.folder / "app")
    assert (checkout.commit, checkout.path, checkout.subject, checkout.dirty) == (commit, "app", "Add it", ())
    assert checkout.versioned
    client_git.refuse_dirty(checkout)


def test_a_dirty_tree_is_refused_with_its_files(repository: Repository) -> None:
    repository.commit({"app/a": "1", "app/gone": "2", "other/c": "3"})
    repository.write({"app/a": "changed", "app/sub/new file": "x", "other/c": "not ours"})
    (repository.folder / "app/gone").unlink()
    checkout = client_git.describe(repository.folder / "app")
    assert checkout.dirty == ("app/a", "app/gone", "app/sub/new file")
    with pytest.raises(InvalidInput) as caught:
        client_git.refuse_dirty(checkout)
    assert "--dirty" in caught.value.hint
    assert caught.value.details == checkout.dirty


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
    for ref in ("nothing", "--all", "HEAD:a"):
        with pytest.raises(InvalidInput, match="no commit is called"):
            client_git.describe(repository.folder, ref)
    repository.write({"new/a": "1"})
    with pytest.raises(InvalidInput, match="no folder 'new'"):
        client_git.objects(client_git.describe(repository.folder / "new"))


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
    with client_git.snapshot(repository.folder / "app") as checkout:
        pack = tmp_path / "sent.pack"
        client_git.write_pack(checkout, client_git.objects(checkout), pack)
    assert state_of(repository.folder) == before
    assert not checkout.versioned
    store.receive(checkout.repository, pack)
    with store.read(checkout.repository) as reader:
        entries = store.export(checkout.repository, store.tree(reader, checkout.commit, "app"))
    assert [entry.path for entry in entries] == [b"a", b"new"]
    with client_git.snapshot(repository.folder / "app") as again:
        assert again.commit == checkout.commit


def test_a_snapshot_before_the_first_commit(repository: Repository) -> None:
    repository.write({"a": "1"})
    with client_git.snapshot(repository.folder) as checkout:
        assert len(client_git.objects(checkout)) == 3


def test_shallow_clones_work(repository: Repository, tmp_path: Path) -> None:
    for n in range(3):
        repository.commit({"a": str(n)})
    git_in(tmp_path)("clone", "-q", "--depth=1", repository.folder.as_uri(), "clone")
    checkout = client_git.describe(tmp_path / "clone")
    store, pack = Mirror(tmp_path / "sources"), tmp_path / "sent.pack"
    client_git.write_pack(checkout, client_git.objects(checkout), pack)
    assert store.receive(checkout.repository, pack) == 3


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
