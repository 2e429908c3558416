"""Reading the files of layers: past the cache, in parts, in turn."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest

from stelae.domain.digest import digest_of
from stelae.images.roots import LayerFile
from stelae.platforms.local.inspect import layer_file, reading
from stelae.platforms.local.inspect.guard import INTERVAL, due
from stelae.platforms.local.inspect.layer_file import WatchedLayer
from stelae.platforms.local.inspect.reading import WINDOW, Reading
from stelae.platforms.local.stamp import stamp_of
from stelae.system import verity


@pytest.mark.parametrize("size", [0, 1, 4096, WINDOW, 2 * WINDOW + 777])
def test_a_reading_has_the_digest_of_the_file(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    file = tmp_path / "file"
    file.write_bytes(content)
    with file.open("rb") as opened:
        found = Reading(opened.fileno())
        assert found.whole() == hashlib.sha256(content).hexdigest()
        assert not found.differs
        found.close()


def test_what_the_cache_has_otherwise_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3 * 4096))
    file.read_bytes()
    parts: list[tuple[int, int]] = []

    def cached(number: int, offset: int, buffer: memoryview) -> int:
        parts.append((offset, len(buffer)))
        data = bytearray(os.pread(number, len(buffer), offset))
        data[-1] ^= 1
        buffer[:] = data
        buffer.release()
        return len(data)

    monkeypatch.setattr(reading, "_cached", cached)
    with file.open("rb") as opened:
        found = Reading(opened.fileno())
        found.whole()
        found.close()
    assert sum(count for _, count in parts) == 3 * 4096
    assert found.differs


def test_a_reading_that_cannot_begin_keeps_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")

    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with (tmp_path / "file").open("rb") as file:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", full)
            with pytest.raises(OSError, match="Too many open files"):
                Reading(file.fileno())
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above


def test_a_reading_is_closed_when_the_step_that_is_under_way_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guard that is cancelled leaves a thread in a step: it uses the buffers that are given back."""
    file = tmp_path / "file"
    file.write_bytes(os.urandom(2 * WINDOW))
    file.read_bytes()
    inside, go_on = threading.Event(), threading.Event()
    cached = reading._cached

    def slow(number: int, offset: int, buffer: memoryview) -> int:
        inside.set()
        assert go_on.wait(10)
        return cached(number, offset, buffer)

    monkeypatch.setattr(reading, "_cached", slow)
    with file.open("rb") as opened, ThreadPoolExecutor(2) as pool:
        found = Reading(opened.fileno())
        step = pool.submit(found.step)
        assert inside.wait(10)
        closing = pool.submit(found.close)
        assert not wait([closing], timeout=0.05).done, "the step still uses what it would close"
        go_on.set()
        assert step.result(10)
        closing.result(10)
        assert not found.step(), "nothing is read after it was closed"


def test_a_file_system_that_has_no_way_past_the_cache(tmp_path: Path) -> None:
    file = Path("/dev/shm") / f"stelae-{os.getpid()}"
    file.write_bytes(b"content" * 1000)
    try:
        with file.open("rb") as opened:
            found = Reading(opened.fileno())
            assert found.whole() == hashlib.sha256(b"content" * 1000).hexdigest()
            assert not found.differs
            found.close()
    finally:
        file.unlink()


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., WatchedLayer]:
    def made(name: str = "a", size: int = 1000, checked: float | None = None) -> WatchedLayer:
        digest = digest_of(name.encode())
        file = tmp_path / f"{digest[7:]}.erofs"
        file.write_bytes(b"x" * size)
        file.with_name(f"{file.name}.sha256").write_text(hashlib.sha256(b"x" * size).hexdigest() + "\n")
        stamp = stamp_of(str(file))
        assert stamp is not None
        layer = WatchedLayer(LayerFile(digest=digest, file=file, point=tmp_path), (stamp[0], stamp[1]), stamp)
        layer.open()
        layer.checked = checked
        return layer

    return made


def test_each_layer_is_read_within_the_interval_and_the_readings_are_spread(
    make: Callable[..., WatchedLayer],
) -> None:
    layers = [make("a", 3000), make("b", 1000), make("c", 1000)]
    at = 0.0
    begun: dict[str, list[int]] = {}
    for _ in range(20):
        layer, pause = due(layers, at)
        while layer is None:
            at += pause + 1e-6
            layer, pause = due(layers, at)
        if layer.checked is not None:
            assert at - layer.checked <= INTERVAL
            begun.setdefault(layer.name, []).append(round(at - layer.checked))
        layer.checked = at
    assert {size for sizes in begun.values() for size in sizes[1:]} == {round(INTERVAL * 0.9)}


def test_what_was_never_read_comes_first_and_what_is_in_trouble_never(make: Callable[..., WatchedLayer]) -> None:
    old, new, bad = make("a", checked=1.0), make("b"), make("c")
    bad.judge("other", differs=False)
    assert bad.trouble is not None
    assert due([old, bad, new], 2.0) == (new, 0.0)
    assert due([bad], 2.0)[0] is None
    assert due([], 2.0)[0] is None


def test_the_digest_of_fs_verity_is_asked_for_at_each_look(
    make: Callable[..., WatchedLayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["aa", "aa", "bb"]
    monkeypatch.setattr(verity, "measure", lambda _: answers.pop(0))
    layer = make()
    layer.look()
    assert layer.trouble is None
    layer.look()
    assert layer.trouble is not None
    assert "fs-verity has another digest of it" in layer.trouble.evidence


def test_a_file_that_cannot_be_read_is_no_sound_file(
    make: Callable[..., WatchedLayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Reading):
        def step(self) -> bool:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(layer_file, "Reading", Failing)
    layer = make()
    layer.unsure = True
    layer.look()
    assert layer.trouble is not None
    assert "it cannot be read: Input/output error" in layer.trouble.evidence


def test_a_file_that_is_not_the_one_of_the_launch(make: Callable[..., WatchedLayer]) -> None:
    layer = make()
    other = replace(layer, identity=(layer.identity[0], layer.identity[1] + 1), file=-1, trouble=None)
    other.open()
    assert other.trouble is not None
    assert "deleted or replaced" in other.trouble.what
