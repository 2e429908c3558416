"""What a new lock changes."""

from __future__ import annotations

from stelae.build.lock import Lock, StageLock
from stelae.build.lock_changes import ArchiveChange, InputChange, archives, inputs
from stelae.domain.digest import digest_of
from stelae.domain.inputs import Input, InputKind


def item(kind: InputKind, name: str, version: str, file: str = "", data: str = "") -> Input:
    digest = digest_of((data or f"{name} {version}").encode())
    return Input(kind=kind, name=name, version=version, digest=digest, file=file)


def lock(*items: Input, archive: str = "", **stages: StageLock) -> Lock:
    return Lock(architecture="amd64", stages={"": StageLock(base="x", inputs=items, archive=archive), **stages})


def said(old: Lock | None, new: Lock) -> list[tuple[str, str, str, str, str]]:
    return [(one.stage, one.kind, one.name, one.old, one.new) for one in inputs(old, new)]


def test_added_removed_upgraded_and_other_bytes() -> None:
    old = lock(
        item(InputKind.DEB, "bash", "5.1"), item(InputKind.DEB, "gone", "1"), item(InputKind.DEB, "same", "1"),
        item(InputKind.WHEEL, "idna", "3.9", "idna-3.9-py3-none-any.whl"), item(InputKind.DEB, "odd", "1"),
    )  # fmt: skip
    new = lock(
        item(InputKind.DEB, "bash", "5.2"), item(InputKind.DEB, "new", "2"), item(InputKind.DEB, "same", "1"),
        item(InputKind.WHEEL, "idna", "3.10", "idna-3.10-py3-none-any.whl"),
        item(InputKind.DEB, "odd", "1", data="other"), tools=StageLock(base="x", inputs=old.inputs[:1]),
    )  # fmt: skip
    assert said(old, new) == [
        ("", "deb", "bash", "5.1", "5.2"), ("", "deb", "gone", "1", ""), ("", "deb", "new", "", "2"),
        ("", "deb", "odd", "1", "1"), ("", "wheel", "idna", "3.9", "3.10"), ("tools", "deb", "bash", "", "5.1"),
    ]  # fmt: skip
    assert said(old, old) == []
    assert [change.stage for change in inputs(new, old) if not change.new and change.name == "bash"] == ["tools"]
    assert len(said(None, old)) == 5


def test_a_package_at_two_places_is_two() -> None:
    one = item(InputKind.NPM, "semver", "6.0.0", "node_modules/a/node_modules/semver")
    other = item(InputKind.NPM, "semver", "7.0.0", "node_modules/semver")
    assert said(lock(one, other), lock(one, item(InputKind.NPM, "semver", "7.1.0", other.file))) == [
        ("", "npm", "semver", "7.0.0", "7.1.0")
    ]
    assert inputs(None, lock(one)) == (InputChange(stage="", kind="npm", name="semver", old="", new="6.0.0"),)


def test_how_old_the_base_was() -> None:
    first, second = "2026-10-01T08:00:00Z", "2026-11-21T02:10:46Z"
    assert archives(lock(archive=first), lock(archive=second)) == (
        ArchiveChange(stage="", old=first, new=second, days=50),
    )
    assert archives(None, lock(archive=second)) == (ArchiveChange(stage="", old="", new=second, days=0),)
    assert archives(lock(), lock()) == ()
