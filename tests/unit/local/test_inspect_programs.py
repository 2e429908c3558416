"""What an inspection knows of program files, of processes and of the kernel's lists, also of hostile ones."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stelae.platforms.local.inspect.elf import text_of
from stelae.platforms.local.inspect.kernel import NAMESPACES, mount_id, namespace, processes, read, shown, stat_of
from stelae.platforms.local.inspect.netlink import ROUTE, Netlink, attribute, attributes
from stelae.platforms.local.inspect.survey import look

LOAD, DYNAMIC = 1, 2
R, W, X = 4, 2, 1
TEXTREL, FLAGS = 22, 30


def elf(*segments: tuple[int, int, int, int], dynamic: tuple[tuple[int, int], ...] = (), wide: bool = True) -> bytes:
    """A file with program headers (kind, flags, offset, size), and a dynamic section at 4096."""
    form = struct.Struct("<QQ" if wide else "<II")
    table = b"".join(
        struct.pack("<IIQQQQQQ", kind, flags, offset, 0, 0, size, size, 4096)
        if wide
        else struct.pack("<8I", kind, offset, 0, 0, size, size, flags, 4096)
        for kind, flags, offset, size in segments
    )
    head = bytearray(64 if wide else 52)
    head[:6] = b"\x7fELF" + bytes((2 if wide else 1, 1))
    struct.pack_into("<Q" if wide else "<I", head, 32 if wide else 28, len(head))
    struct.pack_into("<HH", head, 54 if wide else 42, 56 if wide else 32, len(segments))
    return (bytes(head) + table).ljust(4096, b"\0") + b"".join(form.pack(*entry) for entry in dynamic)


def text(folder: Path, content: bytes) -> tuple[tuple[int, int], ...]:
    file = folder / "file"
    file.write_bytes(content)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return text_of(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("offset", [1 << 63, (1 << 64) - 1])
def test_a_file_whose_parts_are_at_no_place(tmp_path: Path, offset: int) -> None:
    code, dynamic = (LOAD, R | X, 0, 4096), (DYNAMIC, R, offset, 32)
    assert text(tmp_path, elf(code, dynamic)) == ()
    headers = bytearray(elf(code))
    struct.pack_into("<Q", headers, 32, offset)
    assert text(tmp_path, bytes(headers)) == ()


@pytest.mark.parametrize("wide", [True, False])
def test_the_code_of_a_file_is_what_is_executed_and_not_written(tmp_path: Path, wide: bool) -> None:
    code, data, both = (LOAD, R | X, 4096, 100), (LOAD, R | W, 8192, 50), (LOAD, R | W | X, 12288, 50)
    assert text(tmp_path, elf(data, code, both, wide=wide)) == ((4096, 4196),)
    assert text(tmp_path, elf(code, code, wide=wide)) == ((4096, 4196),) * 2


@pytest.mark.parametrize("wide", [True, False])
def test_a_file_that_says_that_its_code_is_written_to_while_it_is_loaded_has_none(tmp_path: Path, wide: bool) -> None:
    code, dynamic = (LOAD, R | X, 0, 4096), (DYNAMIC, R, 4096, 32)
    for entries, found in (
        (((1, 5), (TEXTREL, 0)), ()),
        (((FLAGS, 4), (0, 0)), ()),
        (((FLAGS, 8), (0, 0)), ((0, 4096),)),
        (((1, TEXTREL), (0, 0)), ((0, 4096),)),
    ):
        assert text(tmp_path, elf(code, dynamic, dynamic=entries, wide=wide)) == found


def test_what_is_no_program_has_no_code(tmp_path: Path) -> None:
    for content in (b"", b"\x7fELF", b"#!/bin/sh\n" * 20, elf((LOAD, R | X, 0, 9))[:70], b"\x7fELF" + b"\xff" * 200):
        assert text(tmp_path, content) == ()


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_reader_of_files(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    text(tmp_path_factory.getbasetemp(), b"\x7fELF\x02\x01" + tail)


def test_the_interpreter_that_runs_this_has_code() -> None:
    descriptor = os.open("/proc/self/exe", os.O_RDONLY)
    try:
        (found, *_) = text_of(descriptor)
    finally:
        os.close(descriptor)
    assert found[1] > found[0]


@given(st.binary(max_size=100))
def test_no_bytes_upset_the_reader_of_attributes(body: bytes) -> None:
    assert all(isinstance(value, bytes) for value in attributes(body).values())


def test_attributes_are_read_as_they_are_written() -> None:
    assert attributes(attribute(3, b"lo\0") + attribute(5, b"1234")) == {3: b"lo\0", 5: b"1234"}


def test_lists_of_the_kernel_and_a_list_that_it_does_not_have() -> None:
    with Netlink(ROUTE) as netlink:
        names = [attributes(body, 16)[3] for body in netlink.dump(18, bytes(16))]
        assert b"lo\0" in names
        with pytest.raises(OSError, match="refuses"):
            netlink.dump(0x7FFF, bytes(16))
        assert len(netlink.dump(18, bytes(16))) == len(names)


def test_a_process_is_read_whatever_its_name_is() -> None:
    script = (
        "import ctypes, time; ctypes.CDLL(None).prctl(15, b'a) Z (b', 0, 0, 0); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen(["/usr/bin/env", "python3", "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read(1)
        found = stat_of(child.pid)
        assert found is not None
        assert (found.name, found.parent, found.ended) == (b"a) Z (b", os.getpid(), False)
        child.kill()
        deadline = time.monotonic() + 30
        while (found := stat_of(child.pid)) is not None and not found.ended:
            assert time.monotonic() < deadline
        assert mount_id(f"/proc/{child.pid}/exe") is None  # its files are gone with its memory
        child.wait()
        assert stat_of(child.pid) is None
        assert namespace(child.pid, "net") is None
        assert read(f"/proc/{child.pid}/maps") == b""


def test_the_survey_has_everybody_in_their_namespaces() -> None:
    own = look().members
    assert os.getpid() in processes()
    for kind in NAMESPACES:
        assert os.getpid() in own[namespace(os.getpid(), kind) or ""]


def test_names_that_somebody_else_chose_are_safe_to_show() -> None:
    assert shown("/tmp/\x1b[2J\nx\udcff") == "/tmp/?[2J?x?"
    assert shown(b"/tmp/\xff\n") == "/tmp/\ufffd?"
    assert len(shown("x" * 5000)) == 200
