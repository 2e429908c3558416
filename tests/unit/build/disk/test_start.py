"""The last thing before the process: arguments and variables byte for byte, and the image's own programs only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from stelae.build.disk import start_script

SHOW = "import json, os, sys; print(json.dumps([sys.argv, [x.hex() for a in os.environb.items() for x in a], \
os.getcwd(), sorted(map(int, os.listdir('/proc/self/fd')))]))"


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Return what starts a process: what that prints, and what is said to the first program."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox")

    def start(arguments: list[bytes], variables: Mapping[str, bytes], cwd: str = "/") -> tuple[str, str]:
        place = tmp_path / "launch"
        shutil.rmtree(place, ignore_errors=True)
        for name in ("args", "env"):
            (place / name).mkdir(parents=True)
        for number, word in enumerate(arguments):
            (place / f"args/{number:03}").write_bytes(word)
        for name, value in variables.items():
            (place / "env" / name).write_bytes(value)
        (place / "cwd").write_text(cwd)
        shutil.copy(start_script(), place / "start")
        line = f"exec 8>{tmp_path}/said 9<{place}; exec {busybox} sh /proc/self/fd/9/start 10001"
        done = subprocess.run(
            ["/bin/sh", "-c", line], env={}, capture_output=True, timeout=20, check=False, stdin=subprocess.DEVNULL
        )
        return done.stdout.decode(), (tmp_path / "said").read_text() + done.stderr.decode()

    return start


def test_bytes_come_through_as_they_are(start: Callable[..., tuple[str, str]]) -> None:
    odd = bytes(range(1, 256)) + b"\n\n"
    hostile = b"$(touch /tmp/x); `id`; 'a' \"b\" \\ * ~"
    words = [sys.executable.encode(), b"-c", SHOW.encode(), b"", hostile, b"-n", b"\n"]
    variables = {"ODD": odd, "EMPTY": b"", "HOSTILE": hostile, "IFS": b"x/", "PATH": b"/nowhere", "HOME": b"/h"}
    printed, said = start(words, variables)
    (arguments, found, folder, descriptors) = json.loads(printed)
    assert arguments[1:] == [word.decode() for word in words[3:]]
    pairs = [bytes.fromhex(text) for text in found]
    seen = dict(zip(pairs[::2], pairs[1::2], strict=True))
    seen.pop(b"LC_CTYPE", None)  # Python's own
    assert seen == {name.encode(): value for name, value in variables.items()}
    assert folder == "/"
    assert descriptors[:3] == [0, 1, 2]
    assert not {8, 9} & {*descriptors}
    assert said.startswith("begun ")


def test_a_program_is_looked_for_in_the_image_and_nowhere_else(
    start: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one/cat").write_text("not to be run")
    (tmp_path / "two/cat").symlink_to(shutil.which("echo") or "/bin/echo")
    path = f"{tmp_path}/one:{tmp_path}/two".encode()
    assert start([b"cat", b"found"], {"PATH": path})[0] == "found\n"
    # The shell has commands of these names in itself; the image has none.
    for name in ("ls", "sh", "cd", "true", "nothing"):
        assert start([name.encode()], {"PATH": f"{tmp_path}/one".encode()}) == (
            "",
            f"the image has no program {name}\n",
        )


def test_what_cannot_be_started_is_told(start: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    assert start([b"/no/such"], {})[1] == "the image has no program /no/such\n"
    assert start([b"/bin/true"], {}, cwd="/no/such")[1] == "the process cannot go to its folder /no/such\n"


def test_home_is_that_of_the_user_where_nothing_else_is_said(start: Callable[..., tuple[str, str]]) -> None:
    printed, _ = start([sys.executable.encode(), b"-c", b"import os; print(os.environ['HOME'])"], {})
    assert printed == "/\n" or printed.strip() in Path("/etc/passwd").read_text()
    assert os.path.isabs(printed.strip())  # noqa: PTH117 - a text
