"""A process with mounts of its own: nobody else sees them, and nothing is left of them."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from stelae.build.apart import started
from stelae.system.mount import mount, mounts_below

pytestmark = pytest.mark.real


def run(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sh", "-c", code], cwd="/", stdout=subprocess.PIPE)


def test_its_mounts_folder_and_umask_are_its_own(tmp_path: Path) -> None:
    point = tmp_path / "point"
    point.mkdir()
    before, umask = Path.cwd(), os.umask(0o077)
    try:

        def prepare() -> None:
            os.chdir(tmp_path)
            os.umask(0o002)
            mount("tmpfs", Path("point"), "tmpfs")
            Path("point/inside").write_text("seen")

        with started(prepare, lambda: run(f"cat {point}/inside; umask")) as process:
            assert process.communicate()[0] == b"seen0002\n"
            assert Path.cwd() == before
            assert list(point.iterdir()) == []
            assert mounts_below(point) == ()
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(umask)
    assert not [thread for thread in threading.enumerate() if thread.name == "build-apart"]


def test_what_goes_wrong_in_it_is_raised(tmp_path: Path) -> None:
    def prepare() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), started(prepare, lambda: run("true")):
        pytest.fail("nothing was started")
    with (
        pytest.raises(FileNotFoundError),
        started(lambda: None, lambda: subprocess.Popen(["/no/such/program"])),
    ):
        pytest.fail("nothing was started")


def test_it_lives_as_long_as_it_is_wanted(tmp_path: Path) -> None:
    """A process that ends with its parent ends with the thread: it is there until the ``with`` ends."""
    words = ["setpriv", "--pdeathsig", "KILL", "sleep", "60"]
    with (
        started(lambda: None, lambda: subprocess.Popen(words)) as process,
        pytest.raises(subprocess.TimeoutExpired),
    ):
        process.wait(0.5)
    assert process.wait(5) == -9
