"""The wrapper of a machine, with a program in QEMU's place: how it ends, what it tells, and how it is told to end."""

from __future__ import annotations

import signal
import subprocess
import time
from importlib import resources
from pathlib import Path

import pytest

WRAPPER = resources.files("stelae.platforms.vm").joinpath("wrapper.sh").read_text()


def start(folder: Path, machine: str) -> subprocess.Popen[str]:
    """Start the wrapper in *folder*; *machine* is what sh does in QEMU's place: 3 and 4 are the machine's outputs."""
    return subprocess.Popen(
        ["/bin/sh", "-c", WRAPPER, "machine", "/bin/sh", "-c", machine],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def end(wrapper: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = wrapper.communicate(timeout=20)
    finally:
        wrapper.kill()
    return wrapper.returncode, out, err


@pytest.mark.parametrize("code", [0, 1, 7, 99, 143, 255])
def test_it_ends_with_the_status_that_the_machine_told(tmp_path: Path, code: int) -> None:
    machine = (
        f"echo boots >kernel; echo out >&3; echo err >&4; echo begun >control.out; echo exit {code} >control.out"
    )
    assert end(start(tmp_path, machine)) == (code, "out\n", "err\n")


@pytest.mark.parametrize(
    "said", ["exit 256", "exit 300", "exit", "exit -1", "exit 1x", "exit 3 4", "exit 99999999999999999999", "begun"]
)
def test_what_is_no_status_is_none(tmp_path: Path, said: str) -> None:
    status, _, err = end(start(tmp_path, f"echo '{said}' >control.out"))
    assert status == 1
    assert err == "the machine stopped, and did not say how its program ended\n"


def test_the_last_words_of_the_kernel_are_told_when_it_ends_the_machine(tmp_path: Path) -> None:
    said = (
        "[ 2.1] device-mapper: verity: 254:2: data block 7 is corrupted",
        "[ 2.2] Kernel panic - not syncing: dm-verity",
    )
    lines = "; ".join(f"printf '%s\\r\\n' '{line}'" for line in said)
    machine = rf"(for n in $(seq 100); do printf 'line %s\r\n' $n; done; {lines}; printf 'a trace\r\n') >kernel"
    status, _, err = end(start(tmp_path, machine))
    told = err.splitlines()
    assert status == 1
    assert told[-6:-3] == [*said, "a trace"]
    assert told[-3:] == [
        "device-mapper: verity: 254:2: data block 7 is corrupted", "Kernel panic - not syncing: dm-verity",
        "the machine stopped, and did not say how its program ended",
    ]  # fmt: skip
    assert len(told) == 33
    assert "\r" not in err


def test_a_program_that_the_kernel_ended_is_told_with_its_words(tmp_path: Path) -> None:
    machine = "echo 'Out of memory: Killed process' >kernel; echo exit 137 >control.out"
    assert end(start(tmp_path, machine)) == (137, "", "Out of memory: Killed process\n")


def test_what_was_refused_and_how_qemu_ended_are_told(tmp_path: Path) -> None:
    status, _, err = end(start(tmp_path, "echo 'refused the config disk has a wrong size' >control.out"))
    assert (status, err) == (1, "the machine did not start its program: the config disk has a wrong size\n")
    for file in tmp_path.iterdir():
        file.unlink()
    assert end(start(tmp_path, "echo qemu: no such option >&2; exit 5")) == (
        1, "", "qemu: no such option\nQEMU ended with status 5\n",
    )  # fmt: skip
    for file in tmp_path.iterdir():
        file.unlink()
    status, _, err = end(start(tmp_path, "kill -KILL $$"))
    assert (status, err.splitlines()[-1]) == (137, "QEMU ended with status 137")


def test_the_wish_to_end_reaches_the_machine_and_waits_for_it(tmp_path: Path) -> None:
    machine = "echo begun >control.out; read -r word <control.in; echo $word >&3; echo exit 4 >control.out"
    wrapper = start(tmp_path, machine)
    deadline = time.monotonic() + 10
    while not (tmp_path / "told").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    wrapper.send_signal(signal.SIGTERM)
    assert end(wrapper) == (4, "stop\n", "")
