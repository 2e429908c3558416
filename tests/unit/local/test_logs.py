from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stelae.domain.allocation import InstanceId
from stelae.platforms.local.logs import LONGEST_LINE, Joiner, LogReader, last_texts, log_files

WEB = InstanceId("web-1")
TIME = "2026-11-23T01:02:03.123456789+00:00"


def records(*texts: str, stream: str = "stdout", tag: str = "F") -> bytes:
    return "".join(f"{TIME} {stream} {tag} {text}\n" for text in texts).encode()


def texts(data: bytes) -> list[str]:
    joiner = Joiner(WEB)
    return [line.text for line in [*joiner.feed(data), *joiner.flush()]]


def test_a_record_has_its_time_and_its_stream() -> None:
    (line,) = Joiner(WEB).feed(records("hello  world ", stream="stderr"))
    assert (line.stream, line.text, line.at) == ("stderr", "hello  world ", 1795395723123456)


def test_other_time_zones_and_empty_lines() -> None:
    (line,) = Joiner(WEB).feed(b"2026-11-23T03:02:03.000000000+02:00 stdout F \n")
    assert (line.at, line.text) == (1795395723000000, "")


def test_parts_are_joined_for_each_stream() -> None:
    data = (
        records("a", tag="P") + records("x", tag="P", stream="stderr") + records("b") + records("y", stream="stderr")
    )
    assert texts(data) == ["ab", "xy"]


def test_a_last_line_without_an_end_is_given_at_the_end() -> None:
    assert texts(records("whole") + records("no end", tag="P")) == ["whole", "no end"]


def test_endless_lines_come_in_pieces() -> None:
    part = "x" * 8192
    lines = texts(records(*[part] * 100, tag="P"))
    assert sum(map(len, lines)) == 819200
    assert max(map(len, lines)) <= LONGEST_LINE + 8192


@given(st.binary(max_size=300))
def test_any_bytes_are_readable(data: bytes) -> None:
    joined = "".join(texts(data + b"\n"))
    assert isinstance(joined, str)


@given(
    st.lists(st.text(st.characters(blacklist_characters="\n", blacklist_categories=["Cs"]), max_size=20)), st.data()
)
def test_how_the_bytes_are_cut_does_not_matter(lines: list[str], data: st.DataObject) -> None:
    whole = records(*lines)
    cut = data.draw(st.integers(0, len(whole)))
    joiner = Joiner(WEB)
    found = [line.text for line in [*joiner.feed(whole[:cut]), *joiner.feed(whole[cut:]), *joiner.flush()]]
    assert found == lines


def read_all(reader: LogReader) -> list[str]:
    found: list[str] = []
    while lines := reader.read():
        found += [line.text for line in lines]
    return found


def test_files_are_read_from_the_oldest_and_the_present_one_once(tmp_path: Path) -> None:
    (tmp_path / "log.000009").write_bytes(records("1"))
    (tmp_path / "log.000010").write_bytes(records("2"))
    os.link(tmp_path / "log.000010", tmp_path / "log")
    (tmp_path / "log.tmp").write_bytes(records("not yet"))
    with LogReader(tmp_path, WEB) as reader:
        assert read_all(reader) == ["1", "2"]
    (tmp_path / "log").unlink()
    (tmp_path / "log").write_bytes(records("3"))
    with LogReader(tmp_path, WEB) as reader:
        assert read_all(reader) == ["1", "2", "3"]
    assert [path.name for _, path in log_files(tmp_path)] == ["log.000009", "log.000010", "log"]


def test_a_reader_goes_on_over_a_rotation_and_misses_nothing_written_before_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(records("1"))
    with LogReader(tmp_path, WEB) as reader, log.open("ab") as writer:
        assert read_all(reader) == ["1"]
        os.link(log, tmp_path / "log.000001")
        writer.write(records("2"))
        writer.flush()
        log.unlink()
        log.write_bytes(records("3"))
        assert read_all(reader) == ["2", "3"]
        assert read_all(reader) == []
        with log.open("ab") as more:
            more.write(records("4")[:-5])
            more.flush()
            assert read_all(reader) == []
            more.write(records("4")[-5:])
        assert read_all(reader) == ["4"]


def test_a_line_that_spans_two_files_is_one(tmp_path: Path) -> None:
    (tmp_path / "log.000001").write_bytes(records("be", tag="P"))
    (tmp_path / "log").write_bytes(records("gun"))
    with LogReader(tmp_path, WEB) as reader:
        assert read_all(reader) == ["begun"]


def test_a_reader_whose_file_was_deleted_goes_on_with_the_next_newer(tmp_path: Path) -> None:
    (tmp_path / "log.000001").write_bytes(records("1"))
    with LogReader(tmp_path, WEB) as reader:
        assert read_all(reader) == ["1"]
        for number in (2, 3):
            (tmp_path / f"log.00000{number}").write_bytes(records(str(number)))
        (tmp_path / "log.000001").unlink()
        (tmp_path / "log.000002").unlink()
        assert read_all(reader) == ["3"]


def test_no_file_is_no_line(tmp_path: Path) -> None:
    with LogReader(tmp_path, WEB) as reader:
        assert reader.read() == []
    assert last_texts(tmp_path) == ()
    assert last_texts(tmp_path / "none") == ()


def test_the_last_lines_come_from_all_files_without_blank_ones(tmp_path: Path) -> None:
    (tmp_path / "log.000001").write_bytes(records(*map(str, range(30))))
    (tmp_path / "log").write_bytes(records("", "x" * 9000, "last"))
    found = last_texts(tmp_path)
    assert len(found) == 20
    assert found[-3:] == ("29", "x" * 500, "last")


def test_the_last_lines_of_a_huge_file_are_whole_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(records(*(f"line {number:06}" for number in range(5000))))
    assert last_texts(tmp_path, count=5000)[0].startswith("line 00")
    assert last_texts(tmp_path)[-1] == "line 004999"
