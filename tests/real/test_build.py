"""The builder on real parts: Debian's archive, the package index, the sandbox, a full disk.

What a Debian base costs (half a minute and the network) is paid once a machine: the store is kept in
/var/tmp/stelae-test-cache, by the digest of the recipe.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from stelae.build import client_git
from stelae.build.mirror import Mirror
from stelae.domain.digest import Digest
from stelae.domain.errors import Failed, InvalidInput
from stelae.images import content
from stelae.images.roots import Roots
from stelae.images.tree import directory, file
from stelae.system.mount import mount, unmount
from tests.real.building import TOOLS, kept, run_lines, shell
from tests.unit.build.repository import Repository
from tests.unit.build.test_builder import oci_base
from tests.unit.build.workshop import Workshop, spec

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("bwrap") is None, reason="needs root and bubblewrap"),
]

GUESTBOOK = Path(__file__).parents[2] / "examples" / "guestbook"


@pytest.fixture
def busybox(tmp_path: Path) -> str:
    """A base with a shell, as ``image.base``."""
    tree = shell(*TOOLS)
    tree.add(b"opt/kept/inside", file(b"lower"))
    tree.add(b"opt/gone/inside", file(b"lower"))
    tree.add(b"opt/swapped/inside", file(b"lower"))
    tree.add(b"opt/private", directory(0o700))
    tree.add(b"opt/owned", directory(0o700, uid=7, gid=8))
    return oci_base(tmp_path / "base", tree)


def test_run_steps_change_the_image(repository: Repository, workshop: Workshop, busybox: str) -> None:
    lines = run_lines(
        "pwd > where", "cat serve > /opt/kept/inside", "rm -r /opt/gone", "rm -r /opt/swapped; mkdir /opt/swapped",
        "chown 33:34 serve", "touch /opt/swapped/new",
        "ln /opt/swapped/new /opt/swapped/twin; ln -s new /opt/swapped/link",
        "echo x > /tmp/temporary; mkdir -p made; chmod 750 made; touch made/by-run /opt/owned/new",
    )  # fmt: skip
    repository.commit({"serve": "served", "stelae.toml": spec(lines, base=busybox)})
    result = workshop.build(repository)
    assert [layer.name for layer in result.layers] == ["base", "system", "files", "run"]
    tree = workshop.tree(result.image.digest)
    assert content.read(tree[b"app/where"].content) == b"/app\n"
    assert content.read(tree[b"opt/kept/inside"].content) == b"served"
    assert not any(path.startswith((b"opt/gone", b"opt/swapped/inside", b"tmp/")) for path in tree)
    assert {b"opt/swapped/new", b"opt/swapped/twin", b"opt/swapped/link"} <= set(tree)
    assert tree[b"app/made"].mode == 0o750
    assert tree[b"opt/private"].mode == 0o700
    assert (tree[b"app/serve"].uid, tree[b"app/serve"].gid) == (33, 34)
    assert (tree[b"opt/owned"].uid, tree[b"opt/owned"].gid) == (7, 8)
    assert (tree[b"app/made/by-run"].uid, tree[b"app/made/by-run"].mode) == (0, 0o644)
    assert workshop.build(repository).image.digest == result.image.digest
    other = Workshop(workshop.folder / "again")
    before = os.umask(0o077)
    try:
        assert other.build(repository).image.digest == result.image.digest
    finally:
        os.umask(before)


def test_the_sandbox_shows_nothing_of_the_host(
    repository: Repository, workshop: Workshop, busybox: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STELAE_TEST_SECRET", "hunter2")
    (tmp_path / "visible").write_text("x")
    lines = run_lines(
        "env > env", "hostname > hostname", "id -u > uid", "ls /proc | head -c 2000 > proc", "ls / > root",
        "ip link > links || true", f"ls {tmp_path} > host 2>&1 || true", "cat /proc/1/environ > first || true",
        # Opened for writing, but nothing is written: a sandbox that fails this must not hurt the machine.
        "(: >> /proc/sys/kernel/core_pattern) && echo open > escaped || true",
        "(: >> /proc/sysrq-trigger) && echo open > escaped || true", "cat /proc/self/uid_map > users",
        "wget -T 2 -q -O got http://127.0.0.1:1/ || echo refused > got", "ls -l /sys > sys",
    )  # fmt: skip
    repository.commit({"stelae.toml": spec(lines, base=busybox)})
    tree = workshop.tree(workshop.build(repository).image.digest)

    def read(name: str) -> str:
        return content.read(tree[b"app/" + name.encode()].content).decode()

    assert sorted(line.split("=")[0] for line in read("env").splitlines()) == [
        "HOME", "LANG", "PATH", "PWD", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "SHLVL", "SOURCE_DATE_EPOCH", "TZ"
    ]  # fmt: skip
    assert "hunter2" not in read("first")
    assert read("hostname") == "stelae\n"
    assert read("uid") == "0\n"
    assert len([name for name in read("proc").split() if name.isdigit()]) <= 4
    assert read("root").split() == ["app", "bin", "dev", "etc", "opt", "proc", "run", "sys", "tmp"]
    assert [line for line in read("links").splitlines() if line[0].isdigit() and " lo:" not in line] == []
    assert "visible" not in read("host")
    assert b"app/escaped" not in tree
    first, host, count = map(int, read("users").split())
    assert (first, host >= 2**30, count) == (0, True, 65536)
    assert read("got") == "refused\n"


def test_a_failing_step_says_its_last_lines(repository: Repository, workshop: Workshop, busybox: str) -> None:
    lines = run_lines("true", "echo compiling; echo the reason >&2; exit 3", "touch never")
    repository.commit({"stelae.toml": spec(lines, base=busybox)})
    with pytest.raises(Failed, match="ended with status 3: echo compiling") as caught:
        workshop.build(repository)
    assert caught.value.details == ("compiling", "the reason")
    assert caught.value.where == "image.run"
    assert workshop.layout.images() == () or all(not entry.name for entry in workshop.layout.images())
    assert any("the reason" in line for line in workshop.lines)


def test_a_step_that_leaves_a_fifo(repository: Repository, workshop: Workshop, busybox: str) -> None:
    repository.commit({"stelae.toml": spec(run_lines("mkfifo pipe"), base=busybox)})
    with pytest.raises(Failed, match="FIFO") as caught:
        workshop.build(repository)
    assert caught.value.where == "/app/pipe"


def test_a_step_that_hangs_is_ended_with_all_it_started(
    repository: Repository, workshop: Workshop, busybox: str
) -> None:
    lines = run_lines("echo sleeping; sleep 424242 & sleep 424242") + '\nlimits.time = "1s"'
    repository.commit({"stelae.toml": spec(lines, base=busybox)})
    start = time.monotonic()
    with pytest.raises(Failed, match="did not end within 1s") as caught:
        workshop.build(repository)
    assert time.monotonic() - start < 10
    assert caught.value.details == ("sleeping",)
    assert caught.value.hint == "that is image.limits.time"
    deadline = time.monotonic() + 30
    while running("424242") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running("424242") == []


def running(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in path.read_text().split("\0"):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_a_disk_that_gets_full(repository: Repository, busybox: str, tmp_path: Path) -> None:
    point = tmp_path / "small"
    point.mkdir()
    mount("tmpfs", point, "tmpfs", 0, "size=8m")
    try:
        workshop = Workshop(point / "workshop")
        repository.commit({"stelae.toml": spec(), "small": b"x"})
        assert workshop.build(repository).created
        repository.commit({"large": b"x" * (9 << 20)})
        request = workshop.send(repository)
        with pytest.raises(Failed, match="disk is full"):
            workshop.builder.build(request)
        assert len(workshop.layout.images()) == 1
        assert workshop.leftovers() == []
        large = Repository(tmp_path / "another")
        large.commit({"stelae.toml": spec(), "large": os.urandom(9 << 20)})
        checkout = client_git.describe(large.folder)
        with client_git.Pack(checkout, checkout.objects()) as pack, pytest.raises(Failed, match="disk is full"):
            Mirror(point / "sources").receive("app", pack)
        assert list((point / "sources" / "app.git").rglob("*pack*")) == [point / "sources/app.git/objects/pack"]
    finally:
        unmount(point)


def test_a_step_that_fills_the_disk(repository: Repository, busybox: str, tmp_path: Path) -> None:
    point = tmp_path / "small"
    point.mkdir()
    mount("tmpfs", point, "tmpfs", 0, "size=16m")
    try:
        workshop = Workshop(point / "workshop")
        repository.commit({"stelae.toml": spec(run_lines("dd if=/dev/zero of=large bs=1M count=100"), base=busybox)})
        with pytest.raises(Failed, match="disk is full"):
            workshop.build(repository)
        assert workshop.leftovers() == []
    finally:
        unmount(point)


@pytest.fixture
def debian() -> Workshop:
    """A builder whose store is kept between runs, for recipes on Debian."""
    return Workshop(kept("guestbook"))


@pytest.mark.network
def test_the_guestbook_on_debian(repository: Repository, debian: Workshop, tmp_path: Path) -> None:
    shutil.copytree(
        GUESTBOOK, repository.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )  # fmt: skip
    repository.commit({}, "The guestbook")
    result = debian.build(repository)
    assert [layer.name for layer in result.layers] == ["base", "python", "system", "files", "run"]
    tree = debian.tree(result.image.digest)
    compiled = [path for path in tree if path.endswith(b".pyc") and b"/anyio/" in path]
    assert compiled
    for _ in range(2):
        shutil.rmtree(debian.cache / "steps" / "python", ignore_errors=True)
        again = debian.build(repository)
    assert again.image.digest == result.image.digest
    assert not any("compiling" in line for line in debian.lines), "its bytecode is known, wheel by wheel"
    # Bytecode is found by the hash of its source: file times are a constant.
    assert all(content.read(tree[path].content)[4] & 1 for path in compiled)
    assert b"usr/local/bin/uvicorn" in tree
    assert not any(path.startswith((b"var/lib/apt", b"usr/share/man/", b"etc/apt")) for path in tree)

    # The lock that describes it, committed, gives the same image and makes nothing anew.
    assert '"python3" = "3.' in result.lock
    repository.commit({"stelae.lock": result.lock}, "Lock it")
    locked = debian.build(repository)
    assert locked.image.digest == result.image.digest
    assert {layer.name for layer in locked.layers if not layer.cached} <= {"files"}  # another tree, the same files

    # Wheels come from the store of inputs: no index is asked. The same base in another store gives the same image.
    other = Workshop(tmp_path / "other", cache=tmp_path / "cache")
    (other.folder / "inputs").symlink_to(debian.folder / "inputs")
    shutil.copytree(debian.cache / "steps" / "debian", other.cache / "steps" / "debian")
    base = Digest(result.layers[0].digest)
    other.layout.add_blob(debian.layout.blob_path(base))
    assert other.build(repository).image.digest == result.image.digest
    assert not any("downloading" in line for line in other.lines)

    starts(other, result.image.digest, tmp_path)

    # Figures of the issue, with room for a busy machine.
    text = f'VERSION = "{tmp_path.name} {os.getpid()} {time.time_ns()}"\n'  # the cache outlives a test run
    repository.commit({"app/version.py": text}, "Change one file")
    request = debian.send(repository)
    changed = debian.builder.build(request)
    assert [layer.name for layer in changed.layers if not layer.cached] == ["files", "run"]
    assert changed.seconds < 2
    assert debian.builder.build(request).seconds < 0.5


def starts(workshop: Workshop, digest: Digest, tmp_path: Path) -> None:
    """The image's own Python imports the app and what it needs, as the app's user, from a read-only root."""
    roots = Roots(workshop.layout, tmp_path / "layers", tmp_path / "mounts")
    root = roots.mount_image(digest)
    try:
        done = subprocess.run(
            ["bwrap", "--unshare-all", "--uid", "10001", "--gid", "10001", "--ro-bind", str(root), "/",
             "--proc", "/proc", "--dev", "/dev", "--chdir", "/app", "--clearenv",
             "python3", "-c", "import app.web, uvicorn; print('fine')"],
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.stdout == b"fine\n", done.stderr.decode()
    finally:
        roots.unmount_unused(())


@pytest.mark.network
def test_a_lock_of_what_there_is_not(repository: Repository, debian: Workshop) -> None:
    repository.commit({"stelae.toml": spec('packages = ["python3"]', base="debian:bookworm")})
    result = debian.build(repository)
    (files,) = [item for item in result.inputs if item.name == "base-files"]
    repository.commit({"stelae.lock": result.lock.replace(f'"{files.version} ', '"1-old ')})
    with pytest.raises(InvalidInput, match=re.escape(f"base-files 1-old is that of base-files {files.version}")):
        debian.build(repository)
    # A version that neither the store nor the archive has.
    text = result.lock.replace(f'"{files.version} ', '"1-old ').replace(files.digest, "sha256:" + "0" * 64)
    repository.commit({"stelae.lock": text})
    with pytest.raises(Failed, match="base-files 1-old no more"):
        debian.build(repository)


@pytest.mark.network
def test_a_package_that_debian_does_not_have(repository: Repository, workshop: Workshop) -> None:
    repository.commit({"stelae.toml": spec('packages = ["pyhton3-not-there"]', base="debian:bookworm")})
    with pytest.raises(InvalidInput, match="no package called pyhton3-not-there"):
        workshop.build(repository)


@pytest.mark.network
def test_a_wheel_with_another_hash(repository: Repository, debian: Workshop) -> None:
    lock = "idna==3.10 --hash=sha256:" + "0" * 64 + "\n"
    text = spec('packages = ["python3"]\npython = "requirements.lock"', base="debian:bookworm")
    repository.commit({"stelae.toml": text, "requirements.lock": lock})
    with pytest.raises(InvalidInput, match="another digest"):
        debian.build(repository)
    repository.commit({"requirements.lock": lock.replace("idna==3.10", "idna==999.9")})
    with pytest.raises(InvalidInput, match="no fitting wheel"):
        debian.build(repository)
    assert debian.leftovers() == []
