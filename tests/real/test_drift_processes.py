"""Who attacks the processes of an instance is found by one sweep; what programs do themselves is nobody's drift."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from stelae.domain.drift import Drift
from stelae.domain.units import MIB
from stelae.platforms.local import record
from stelae.platforms.local.inspect import survey
from stelae.platforms.local.inspect.kernel import namespace
from stelae.system.installation import Installation
from tests.real.busybox import process
from tests.real.drift_parts import PUPPET, TMP, Stage, cmdline, make_layers, python, staged, until

pytestmark = [pytest.mark.real, pytest.mark.anyio]

NODE = shutil.which("node")
QUIET = python("import time\nwhile True: time.sleep(1)")
SLEEPER = process("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done", tmpfs=(TMP,))


@pytest.fixture(scope="session")
def layers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return make_layers(tmp_path_factory.mktemp("layers"), *([] if NODE is None else [Path(NODE)]))


async def test_healthy_instances_have_nothing(stage: Stage) -> None:
    await stage.launch("web-1", QUIET)
    await stage.launch("web-2", SLEEPER)
    for _ in range(3):
        seen = await stage.sweep()
        assert seen.findings == ()
        assert seen.inspected == {"web-1", "web-2"}


COPY = """
def copy(file, source):
    file.write(open(source, "rb").read())
    file.flush()
"""


def may_execute(stage: Stage, name: str) -> None:
    """Take ``noexec`` from the instance's memory file system, which is a drift of its mounts."""
    first = str(stage.first(name))
    subprocess.run(["nsenter", "-t", first, "-m", "/bin/mount", "-o", "remount,exec", "tmpfs", "/tmp"], check=True)


async def test_a_program_from_memory(stage: Stage) -> None:
    await stage.launch("web-1", PUPPET)
    await stage.launch("web-2", QUIET)
    await stage.order("web-1", COPY + """
fd = os.memfd_create("x")
copy(os.fdopen(fd, "wb", closefd=False), "/bin/busybox")
if os.fork() == 0:
    os.execve(fd, ["sleep", "1000"], {})
time.sleep(0.2)
""")  # fmt: skip
    found = await stage.found("web-1", "a program that is not the image's runs: /memfd:x (deleted)")
    assert found.kind is Drift.PROCESS
    again = await stage.found("web-1", "a program that is not the image's runs")
    assert again.what == found.what


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_dropped_program(stage: Stage, deleted: bool) -> None:
    await stage.launch("web-1", PUPPET)
    may_execute(stage, "web-1")
    await stage.order("web-1", COPY + f"""
with open("/tmp/evil", "wb") as file: copy(file, "/bin/busybox")
os.chmod("/tmp/evil", 0o755)
subprocess.Popen(["sleep", "1000"], executable="/tmp/evil")
time.sleep(0.1)
if {deleted}: os.unlink("/tmp/evil")
""")  # fmt: skip
    found = await stage.found("web-1", "a program that is not the image's runs: /tmp/evil")
    assert found.kind is Drift.PROCESS
    assert found.what.endswith(" (deleted)") is deleted


async def test_a_library_before_all_others(stage: Stage) -> None:
    await stage.launch("web-1", PUPPET)
    may_execute(stage, "web-1")
    await stage.order("web-1", COPY + """
with open("/tmp/evil.so", "wb") as file: copy(file, "/lib/x86_64-linux-gnu/libz.so.1")
subprocess.Popen(["/usr/bin/python3", "-c", "import time; time.sleep(1000)"], env={"LD_PRELOAD": "/tmp/evil.so"})
time.sleep(0.3)
""")  # fmt: skip
    found = await stage.found("web-1", "code that is not the image's is loaded: /tmp/evil.so")
    assert found.kind is Drift.PROCESS


async def test_a_library_from_memory(stage: Stage) -> None:
    await stage.launch("web-1", PUPPET)
    await stage.order("web-1", COPY + """
fd = os.memfd_create("plugin")
copy(os.fdopen(fd, "wb", closefd=False), "/lib/x86_64-linux-gnu/libz.so.1")
kept = ctypes.CDLL(f"/proc/self/fd/{fd}")
""")  # fmt: skip
    await stage.found("web-1", "code that is not the image's is loaded: /memfd:plugin (deleted)")


DAEMON = "/bin/sleep 1000 </dev/null >/dev/null 2>&1 &"


def runtime(stage: Stage, *words: str) -> list[str]:
    found = record.load(stage.place("web-1"))
    assert found is not None
    return [found.runtime, f"--root={stage.installation.run / 'runtime'}", *words]


@pytest.mark.parametrize("kind", ["exec", "exec detached", "nsenter", "daemon", "login"])
async def test_whoever_comes_in_from_outside(stage: Stage, kind: str) -> None:
    first = await stage.launch("web-1", SLEEPER)
    cid = stage.place("web-1").cid
    forever = ["/bin/sleep", "1000"]
    commands = {
        "exec": runtime(stage, "exec", cid, *forever),
        "exec detached": runtime(stage, "exec", "--detach", cid, *forever),
        "nsenter": ["nsenter", "-t", str(first), "-a", *forever],
        "daemon": ["nsenter", "-t", str(first), "-a", "/bin/sh", "-c", DAEMON],
        "login": ["sh", "-c", 'echo 4711 >/proc/self/loginuid; exec "$@"', "sh",
                  *runtime(stage, "exec", cid, "/bin/sh", "-c", DAEMON)],
    }  # fmt: skip
    attacker = stage.attack(*commands[kind])
    await until(lambda: any(cmdline(pid).startswith(b"/bin/sleep\x001000") for pid in inside(first)))
    if kind in ("daemon", "login", "exec detached"):
        attacker.wait(5)
    found = await stage.found("web-1", "a process came in from outside: /bin/busybox")
    assert found.kind is Drift.PROCESS
    if kind == "login":
        assert "of login user 4711" in found.evidence[0]


def inside(first: int) -> list[int]:
    """All processes of the machine in the namespace of processes of *first*."""
    return list(survey.look().members[namespace(first, "pid") or ""])


async def test_a_process_of_the_machine_in_one_namespace_only(stage: Stage) -> None:
    first = await stage.launch("web-1", SLEEPER)
    attacker = stage.attack("nsenter", "-t", str(first), "-n", "sleep", "1000")
    await until(lambda: cmdline(attacker.pid).startswith(b"sleep"))
    found = await stage.found("web-1", "a process of the machine is in its namespaces (net): ")
    assert f"process {attacker.pid} (sleep)" in found.evidence[0]


async def test_a_process_of_the_machine_in_the_control_group(stage: Stage) -> None:
    await stage.launch("web-1", SLEEPER)
    attacker = stage.attack("sleep", "1000")
    group = f"{stage.installation.name}/instances/{stage.place('web-1').cid}/cgroup.procs"
    for procs in [*Path("/sys/fs/cgroup").glob(group), *Path("/sys/fs/cgroup").glob(f"*/{group}")]:
        procs.write_text(str(attacker.pid))
    await stage.found("web-1", "a process of the machine is in its control group: ")


async def text(pid: int, file: str) -> int:
    """Return the last address of the code of *file* in a process, once it is there: padding that nothing executes."""
    found: list[str] = []

    def mapped() -> bool:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        found[:] = [line for line in lines if " r-xp " in line and line.endswith(file)]
        return bool(found)

    await until(mapped)
    return int(found[0].split()[0].split("-")[1], 16) - 32


async def test_code_that_somebody_wrote_into_memory(stage: Stage) -> None:
    first = await stage.launch("web-1", QUIET)
    address = await text(first, "/libm.so.6")
    with Path(f"/proc/{first}/mem").open("r+b", buffering=0) as memory:
        memory.seek(address)
        same = memory.read(4)
        memory.seek(address)
        memory.write(same)
        assert (await stage.sweep()).findings == ()  # it is what it was
        memory.seek(address)
        memory.write(b"\xcc")
    found = await stage.found("web-1", "the code of /lib/x86_64-linux-gnu/libm.so.6 was changed in memory")
    assert found.kind is Drift.CODE
    assert any(f": cc{same[1:].hex()}" in line for line in found.evidence), found


async def test_a_program_that_is_made_to_change_its_own_code(stage: Stage) -> None:
    first = await stage.launch("web-1", PUPPET)
    address = await text(first, "/usr/bin/python3.11")
    await stage.order("web-1", f"""
page = {address} & ~4095
libc = ctypes.CDLL(None)
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
assert libc.mprotect(page, 4096, 3) == 0
ctypes.memmove({address}, b"EVIL", 4)
assert libc.mprotect(page, 4096, 5) == 0
""")  # fmt: skip
    found = await stage.found("web-1", "the code of /usr/bin/python3.11 was changed in memory")
    assert any(": " + b"EVIL".hex() in line for line in found.evidence), found


async def test_what_is_not_seen_of_processes(stage: Stage) -> None:
    """What the documentation says is not seen."""
    await stage.launch("web-1", PUPPET)
    cid = stage.place("web-1").cid
    await stage.order("web-1", """
open("/tmp/script.py", "w").write("import time; time.sleep(1000)")
subprocess.Popen(["/usr/bin/python3", "/tmp/script.py"])
""")  # fmt: skip
    # its starter has ended, nobody had logged in, and the program is the image's
    stage.attack(*runtime(stage, "exec", cid, "/bin/sh", "-c", DAEMON)).wait(10)
    assert (await stage.sweep()).findings == ()


STORM = """
import os, signal, subprocess, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(0.05)
            os.execv("/bin/sleep", ["sleep", "0.05"])
        os._exit(0)
while True:
    for _ in range(4): daemon()
    subprocess.Popen(["/bin/sh", "-c", "cat /bin/busybox | grep -c x | cat > /dev/null"])
    time.sleep(0.01)
"""

TITLE = """
import ctypes, time
libc = ctypes.CDLL(None)
libc.prctl(15, b"/memfd:x) Z 1", 0, 0, 0)
while True: time.sleep(1)
"""

JUST_IN_TIME = """
import ctypes, mmap, os, time
code = mmap.mmap(-1, 8192, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)  # shared: /dev/zero
own = mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
                prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
fd = os.memfd_create("doublemapper")
os.ftruncate(fd, 8192)
data = mmap.mmap(fd, 8192)
again = mmap.mmap(fd, 8192, prot=mmap.PROT_READ | mmap.PROT_EXEC)
for part in (code, own, data): part[:4] = b"\\xc3" * 4
import sys
sys.stdout.write("ready")
while True: time.sleep(1)
"""


async def test_what_programs_do_themselves_is_no_drift(stage: Stage) -> None:
    await stage.launch("storm-1", python(STORM, pids=512))
    await stage.launch("title-1", python(TITLE))
    await stage.launch("jit-1", python(JUST_IN_TIME))
    if NODE is not None:
        script = "let n=0; function f(x){return x*2+n}; setInterval(()=>{for(let i=0;i<1e5;i++)n=f(i)%7},5)"
        await stage.launch("node-1", process("/usr/bin/node", "-e", script, memory=512 * MIB, tmpfs=(TMP,)))
    await asyncio.sleep(0.5)
    for _ in range(20):
        seen = await stage.sweep()
        assert seen.findings == ()
        assert not seen.missed
        await asyncio.sleep(0.05)


@pytest.mark.usefixtures("crun_runs")
async def test_instances_of_crun(installation: Installation, layers: tuple[Path, ...]) -> None:
    binary = shutil.which("crun")
    if binary is None:
        pytest.skip("needs crun")
    async with staged(installation, layers, binary) as stage:
        await stage.launch("web-1", SLEEPER)
        await stage.launch("web-2", python(STORM, pids=512))
        for _ in range(10):
            seen = await stage.sweep()
            assert seen.findings == ()
            assert seen.inspected == {"web-1", "web-2"}
        for words in (["exec", stage.place("web-1").cid], ["exec", "--detach", stage.place("web-1").cid]):
            attacker = stage.attack(*runtime(stage, *words, "/bin/sleep", "1000"))
            await until(lambda: any(cmdline(pid).startswith(b"/bin/sleep") for pid in inside(stage.first("web-1"))))
            await stage.found("web-1", "a process came in from outside: /bin/busybox")
            for pid in inside(stage.first("web-1")):
                if cmdline(pid).startswith(b"/bin/sleep"):
                    os.kill(pid, signal.SIGKILL)
            attacker.wait(5)
