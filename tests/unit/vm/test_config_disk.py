"""The config disk: the same words give the same bytes, and what a machine would not take is refused here."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from ipaddress import IPv4Interface

import pytest

from stelae.domain.errors import Failed
from stelae.domain.process import Tmpfs
from stelae.domain.units import MIB
from stelae.platforms.vm.config_disk import BLOCK, LARGEST, Config, config_disk

CONFIG = Config(
    command=("serve", "", "two words\n"),
    variables={"PATH": "/bin", "GREETING": "grüß \udcff"},
    secrets={"key.pem": bytes(range(256)), "empty": b""},
    user=(7, 8),
    folder="/app",
    address=IPv4Interface("10.9.0.2/24"),
    gateway="10.9.0.1",
    hostname="web-1",
    hosts="127.0.0.1 localhost\n",
    resolvers="",
    tmpfs=(Tmpfs(path="/tmp", size=MIB), Tmpfs(path="/data", size=4096)),
)


def unpacked(disk: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(disk[BLOCK:])) as archive:
        for entry in archive.getmembers():
            assert entry.isreg()
            assert (entry.mode, entry.uid, entry.gid, entry.mtime, entry.uname) == (0o400, 0, 0, 0, "")
        return {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]


def test_the_head_tells_size_and_digest_of_what_follows() -> None:
    disk = config_disk(CONFIG)
    head, _, padding = disk[:BLOCK].partition(b"\n")
    archive = disk[BLOCK:]
    assert head == f"stelae-config 1 {len(archive)} {hashlib.sha256(archive).hexdigest()}".encode()
    assert set(padding) == {0}
    assert len(disk) % BLOCK == 0


def test_it_says_all_byte_for_byte() -> None:
    assert unpacked(config_disk(CONFIG)) == {
        "args/000": b"serve", "args/001": b"", "args/002": b"two words\n", "env/PATH": b"/bin",
        "env/GREETING": "grüß ".encode() + b"\xff", "secrets/key.pem": bytes(range(256)), "secrets/empty": b"",
        "user": b"7:8", "cwd": b"/app", "address": b"10.9.0.2/24", "gateway": b"10.9.0.1", "hostname": b"web-1",
        "hosts": b"127.0.0.1 localhost\n", "resolv.conf": b"", "tmpfs": b"4096 7 8 /data\n1048576 7 8 /tmp\n",
    }  # fmt: skip


def test_the_same_words_in_another_order_are_the_same_bytes() -> None:
    other = replace(
        CONFIG, variables=dict(reversed(list(CONFIG.variables.items()))),
        secrets=dict(reversed(list(CONFIG.secrets.items()))), tmpfs=tuple(reversed(CONFIG.tmpfs)),
    )  # fmt: skip
    assert config_disk(other) == config_disk(CONFIG)
    assert config_disk(replace(CONFIG, hostname="web-2")) != config_disk(CONFIG)


@pytest.mark.parametrize("name", ["../user", "a/b", "", ".", "..", "-x", "a b", "a\n", "a" * 200])
def test_a_name_that_could_be_another_file_is_refused(name: str) -> None:
    with pytest.raises(Failed, match="cannot be told"):
        config_disk(replace(CONFIG, variables={name: "x"}))
    with pytest.raises(Failed, match="cannot be told"):
        config_disk(replace(CONFIG, secrets={name: b"x"}))


def test_what_it_cannot_say_is_refused() -> None:
    with pytest.raises(Failed, match="NUL"):
        config_disk(replace(CONFIG, command=("a\0b",)))
    with pytest.raises(Failed, match="arguments"):
        config_disk(replace(CONFIG, command=("a",) * 1001))
    with pytest.raises(Failed, match="at most"):
        config_disk(replace(CONFIG, secrets={"big": bytes(LARGEST)}))
