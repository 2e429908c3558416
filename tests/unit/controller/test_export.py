"""The log as an archive: the same bytes for the same checkpoint, and whatever is changed in it is named."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from stelae.controller.audit import Audit
from stelae.controller.recovery.checking import check_archive
from stelae.controller.recovery.export import log_members
from stelae.core.tiles import unbundle
from stelae.domain.errors import Failed, InvalidInput, StelaeError
from stelae.domain.event import Scaled
from stelae.images.pack import packed
from stelae.ledger.checkpoint import Checkpoint
from stelae.ledger.note import Signer
from stelae.ledger.store import Draft, Ledger
from stelae.system.installation import Installation
from tests.unit.controller.archives import opened, packed_again
from tests.unit.controller.estate import LONG, Estate, installed, on_estate
from tests.unit.controller.site import Site, on_site

SIGNER = Signer("example.com/export/log", bytes(range(32)))
OTHER = Signer("example.com/export/log", bytes(32))
SIZE = 600


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The log of SIZE events."""
    folder = tmp_path_factory.mktemp("export")
    ledger = Ledger.open(folder / "ledger.db", clock=lambda: 1)
    try:
        ledger.append([Draft(event=Scaled(process="web", count=n), actor="ana") for n in range(SIZE)])
        signed = SIGNER.sign(Checkpoint(SIGNER.name, SIZE, bytes.fromhex(ledger.root)).text)
        return b"".join(packed(log_members(ledger, signed, SIGNER.verifier)))
    finally:
        ledger.close()


def checked(tmp_path: Path, archive: bytes, signer: Signer | None = SIGNER) -> int:
    file = tmp_path / "log.tar"
    file.write_bytes(archive)
    return check_archive(file, signer.verifier if signer else None).checkpoint.size


def test_it_is_whole_and_says_so_with_and_without_a_key(tmp_path: Path, archive: bytes) -> None:
    assert checked(tmp_path, archive) == SIZE
    alone = check_archive(tmp_path / "log.tar", None)
    assert (alone.own_key, alone.verifier.vkey) == (True, SIGNER.verifier.vkey)
    with pytest.raises(Failed, match="not signed by the key"):
        checked(tmp_path, archive, Signer(OTHER.name, OTHER.seed))


@pytest.mark.parametrize("event", [0, 255, 256, 511, 599])
def test_an_event_that_was_changed_is_named(tmp_path: Path, archive: bytes, event: int) -> None:
    files = opened(archive)
    name = {0: "tile/entries/000", 1: "tile/entries/001", 2: "tile/entries/002.p/88"}[event // 256]
    old = b'"count":%d,"process":"web"' % event
    assert files[name].count(old) == 1
    files[name] = files[name].replace(old, old.replace(b"web", b"wob"))
    with pytest.raises(Failed, match=f"event {event} is"):
        checked(tmp_path, packed_again(files))


def test_a_changed_tile_is_named_by_the_events_that_it_is_about(tmp_path: Path, archive: bytes) -> None:
    for name, place, said in (
        ("tile/0/001", 32 * 7, "event 263 is"), ("tile/0/002.p/88", 31, "event 512 is"),
        ("tile/1/000.p/2", 32, "one of the events 256 to 511 is"),
    ):  # fmt: skip
        files = opened(archive)
        data = bytearray(files[name])
        data[place] ^= 1
        files[name] = bytes(data)
        with pytest.raises(Failed, match=said):
            checked(tmp_path, packed_again(files))


def test_all_of_it_made_again_without_the_key_is_refused(tmp_path: Path, archive: bytes) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db", clock=lambda: 1)
    ledger.append([Draft(event=Scaled(process="web", count=n + 1), actor="eve") for n in range(SIZE)])
    forged = OTHER.sign(Checkpoint(OTHER.name, SIZE, bytes.fromhex(ledger.root)).text)
    made = b"".join(packed(log_members(ledger, forged, OTHER.verifier)))
    ledger.close()
    with pytest.raises(Failed, match=r"not signed by the key|signature of"):
        checked(tmp_path, made)
    with pytest.raises(Failed, match=r"the signature of|not signed"):
        checked(tmp_path, packed_again({**opened(made), "checkpoint": opened(archive)["checkpoint"]}), OTHER)
    mixed = {**opened(made), "checkpoint": opened(archive)["checkpoint"]}
    with pytest.raises(Failed, match="all of it was made again"):
        checked(tmp_path, packed_again(mixed))


def test_bytes_that_are_flipped_anywhere_are_found(tmp_path: Path, archive: bytes) -> None:
    """What the checker needs is checked; README, padding and the tar's own times are no part of the proof."""
    files = opened(archive)
    start = archive.rindex(files["log.vkey"]) - 512
    checks = 0
    for place in range(start, len(archive) - 1024, 1009):
        block, within = place // 512 * 512, place % 512
        if archive[block + 257 : block + 262] == b"ustar" or not archive[place]:
            continue  # a header, which has fields that tell nothing, or padding
        assert within < 512
        changed = bytearray(archive)
        changed[place] ^= 4
        with pytest.raises(StelaeError):
            checked(tmp_path, bytes(changed))
        checks += 1
    assert checks > 50


@pytest.mark.parametrize("part", [1, 3, 5, 7, 9, 9.99])
def test_an_archive_that_ends_early_is_not_whole(tmp_path: Path, archive: bytes, part: float) -> None:
    with pytest.raises(InvalidInput):
        checked(tmp_path, archive[: int((len(archive) - 1536) * part / 10)])


def test_nothing_else_comes_in(tmp_path: Path, archive: bytes) -> None:
    for name in ("../x", "/etc/passwd", "tile/entries/003", "evidence/../../x"):
        with pytest.raises(InvalidInput, match="more than a log"):
            checked(tmp_path, packed_again({**opened(archive), name: b"x"}))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("README.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(InvalidInput, match="not a file"):
        checked(tmp_path, out.getvalue())
    device = tarfile.TarInfo("README.txt")
    device.type = tarfile.CHRTYPE
    with pytest.raises(InvalidInput, match="a character device"):
        checked(tmp_path, device.tobuf() + bytes(1024))
    with pytest.raises(InvalidInput, match=r"README\.txt belongs"):
        checked(tmp_path, packed_again({f"n{number}": b"" for number in range(1000)}))


def test_what_the_readme_says_checks_it_with_nothing_of_stelae(tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "log.tar").write_bytes(archive)
    subprocess.run(["tar", "-xf", "log.tar"], cwd=tmp_path, check=True)
    text = (tmp_path / "README.txt").read_text()
    program = text.partition("----8<---- check.py\n")[2].partition("----8<----")[0]
    (tmp_path / "check.py").write_text(program)

    def run() -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-I", "-S", "check.py", SIGNER.verifier.vkey]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run()
    assert (done.returncode, done.stdout) == (
        0, f"{SIZE} entries of {SIGNER.name} are those that its key has signed\n",
    ), done.stderr  # fmt: skip
    entries = tmp_path / "tile/entries/001"
    entries.write_bytes(entries.read_bytes().replace(b"ana", b"eve", 1))
    assert "WRONG: the entries" in run().stderr
    checkpoint = tmp_path / "checkpoint"
    checkpoint.write_bytes(checkpoint.read_bytes().replace(b"\n600\n", b"\n512\n"))
    assert "WRONG: the signature" in run().stderr


def test_a_controller_gives_it_in_pieces_and_the_same_each_time(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        where = Installation(name="stx", state=tmp_path / "s", run=tmp_path / "r")
        found = Audit(site.record, where)
        await site.apply()

        async def exported() -> tuple[bytes, dict[str, object]]:
            data = b""
            async for item in found.export(evidence=False):
                if "result" in item:
                    return data, item["result"]
                data += base64.b64decode(item["progress"]["data"])
            raise AssertionError

        first, answer = await exported()
        assert (await exported())[0] == first
        assert (answer["sha256"], answer["bytes"]) == (hashlib.sha256(first).hexdigest(), len(first))
        (tmp_path / "log.tar").write_bytes(first)
        key = (await found.log_key())["key"]
        assert check_archive(tmp_path / "log.tar", None).verifier.vkey == key
        private = (where.keys / "log").read_text().strip()
        assert private.split("+", 4)[4].encode() not in first
        assert b"PRIVATE" not in first
        # One that nobody reads to its end holds nobody up.
        half = found.export(evidence=False)
        await anext(half)
        await site.deploy(await site.image("one"))
        assert isinstance(half, AsyncGenerator)
        await half.aclose()
        assert (await exported())[0] != first

    on_site(tmp_path, body)


def evident(archive: bytes) -> dict[str, bytes]:
    return {name: data for name, data in opened(archive).items() if name.startswith("evidence/")}


@pytest.fixture(scope="module")
def with_evidence(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The log of an installation with two images, one of which has very many packages inside."""
    own, made = installed(tmp_path_factory.mktemp("evidence")), []

    async def body(estate: Estate) -> None:
        await estate.image("one")
        await estate.image("two", packages=400)
        async for item in estate.audit.export(evidence=True):
            made.append(base64.b64decode(item["progress"]["data"]) if "progress" in item else b"")

    on_estate(own, body)
    return b"".join(made)


def test_what_is_too_large_for_an_event_is_there_by_its_digest(tmp_path: Path, with_evidence: bytes) -> None:
    """Lists of contents and provenance of images: their digests are in the log, they are beside it."""
    (tmp_path / "log.tar").write_bytes(with_evidence)
    found = check_archive(tmp_path / "log.tar", None).evidence
    assert found is not None
    assert (len(found.signed), found.unsigned, found.absent) == (2, (), ())
    parts = evident(with_evidence)
    assert max(map(len, parts.values())) > 65_535
    leaves = [leaf for name, data in opened(with_evidence).items() if name.startswith("tile/entries/")
              for leaf in unbundle(data)]  # fmt: skip
    assert max(map(len, leaves)) < 10_000
    layout = json.loads(parts["evidence/index.json"])
    assert len(layout["manifests"]) == 2


def test_evidence_that_was_changed_or_is_of_something_else_is_found(tmp_path: Path, with_evidence: bytes) -> None:
    parts = opened(with_evidence)
    for name, data in parts.items():
        if name.startswith("evidence/blobs/"):
            changed = {**parts, name: data[:-1] + bytes([data[-1] ^ 1])}
            with pytest.raises(Failed, match="another digest"):
                checked(tmp_path, packed_again(changed), None)
    for name in [name for name in parts if name.startswith("evidence/blobs/")]:
        with pytest.raises(StelaeError):
            checked(tmp_path, packed_again({key: data for key, data in parts.items() if key != name}), None)
    other = json.loads(parts["evidence/index.json"])
    other["manifests"][0]["digest"] = f"sha256:{0:064}"
    with pytest.raises(Failed, match="which no event of the log names"):
        checked(tmp_path, packed_again({**parts, "evidence/index.json": json.dumps(other).encode()}), None)


def test_a_statement_that_is_left_out_is_named(tmp_path: Path, with_evidence: bytes) -> None:
    parts = opened(with_evidence)
    name = next(name for name in parts if name.startswith("evidence/referrers/"))
    listed = json.loads(parts[name])
    listed["manifests"] = [
        item for item in listed["manifests"] if "cyclonedx" not in json.dumps(item.get("annotations", {})).lower()
    ]
    (tmp_path / "log.tar").write_bytes(packed_again({**parts, name: json.dumps(listed).encode()}))
    found = check_archive(tmp_path / "log.tar", None).evidence
    assert found is not None
    assert len(found.absent) == 1
    assert found.absent[0].encode() in b"".join(parts.values())


HELD_AT = 2


@pytest.fixture(scope="module")
def with_held(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The log of three events, of which the last is too long for a leaf."""
    ledger = Ledger.open(tmp_path_factory.mktemp("held") / "ledger.db", clock=lambda: 1)
    try:
        ledger.append([Draft(event=Scaled(process=name, count=1), actor="ana") for name in ("a", "b", "w" * 65_536)])
        signed = SIGNER.sign(Checkpoint(SIGNER.name, HELD_AT + 1, bytes.fromhex(ledger.root)).text)
        return b"".join(packed(log_members(ledger, signed, SIGNER.verifier)))
    finally:
        ledger.close()


def test_an_event_that_is_too_long_is_there_by_its_digest(tmp_path: Path, with_held: bytes) -> None:
    assert checked(tmp_path, with_held) == HELD_AT + 1
    files = opened(with_held)
    [name] = [name for name in files if name.startswith("held/")]
    assert json.loads(files[name])["process"] == "w" * 65_536
    assert name == f"held/sha256/{hashlib.sha256(files[name]).hexdigest()}"
    for body in (files[name].replace(b"ww", b"wo", 1), files[name][:-1], files[name] + b" "):
        with pytest.raises(StelaeError, match=rf"body of event {HELD_AT}|{name}"):
            checked(tmp_path, packed_again({**files, name: body}))
    with pytest.raises(InvalidInput):
        checked(tmp_path, packed_again({key: data for key, data in files.items() if key != name}))
    with pytest.raises(InvalidInput, match="more than a log"):
        checked(tmp_path, packed_again({**files, f"held/sha256/{hashlib.sha256(b'x').hexdigest()}": b"x"}))


def test_the_program_of_the_readme_checks_that_too(tmp_path: Path, with_held: bytes) -> None:
    (tmp_path / "log.tar").write_bytes(with_held)
    subprocess.run(["tar", "-xf", "log.tar"], cwd=tmp_path, check=True)
    program = (tmp_path / "README.txt").read_text().partition("----8<---- check.py\n")[2].partition("----8<----")[0]
    words = [sys.executable, "-I", "-S", "-c", program, SIGNER.verifier.vkey]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"3 entries of {SIGNER.name} are those that its key has signed\n")
    [path] = (tmp_path / "held/sha256").iterdir()
    path.write_bytes(path.read_bytes() + b" ")
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"WRONG: the body of entry {HELD_AT}" in done.stderr


def test_what_is_signed_of_images_is_checked_by_events_that_are_held(tmp_path: Path) -> None:
    own, made = installed(tmp_path), []

    async def body(estate: Estate) -> None:
        await estate.site.record.append([LONG], actor="ana")
        await estate.image("one")
        async for item in estate.audit.export(evidence=True):
            made.append(base64.b64decode(item["progress"]["data"]) if "progress" in item else b"")

    on_estate(own, body)
    (tmp_path / "log.tar").write_bytes(b"".join(made))
    found = check_archive(tmp_path / "log.tar", None).evidence
    assert found is not None
    assert (len(found.signed), found.absent) == (1, ())
