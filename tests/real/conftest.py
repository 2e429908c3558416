"""Fixtures of the tests on real parts: a machine of its own, and the guestbook's image built once."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stelae.system.installation import Installation
from stelae.system.mount import mount, mounts_below, unmount
from tests.real.busybox import make_erofs, own_installation
from tests.real.drift_parts import Stage, staged
from tests.real.keeping import CACHE
from tests.real.machine import SEED, Machine
from tests.unit.build.repository import Repository
from tests.unit.build.workshop import Workshop

LONG = (
    "test_disk_builds",
    "test_vm",
    "test_main_job",
    "test_crash_points",
    "test_crash",
    "test_reproducible",
    "test_dockerfile",
    "test_takeover",
)
"""The files that take longest: they begin first, so that those who run tests side by side end together."""


def pytest_configure() -> None:
    """What is started in a shell's background ignores Ctrl-C, and so would the commands that are tested here."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the example once, before the first test, so that no test's time depends on the package archives or on who
    else builds it: processes that run tests side by side wait for the one that does."""
    wanted = any("_seed" in getattr(item, "fixturenames", ()) for item in session.items)
    if not wanted or session.config.option.collectonly or os.geteuid() != 0:
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (SEED / "images").is_dir():
            with Machine(seed=False) as machine:
                machine.use().start()
                machine.cli("build")
                machine.keep_seed()


@pytest.fixture
def anyio_backend() -> str:
    """What asynchronous tests run on."""
    return "asyncio"


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """An installation beside all others, of which nothing is left."""
    with own_installation(tmp_path) as made:
        yield made


HYBRID = "stelae-tests-hybrid-"


@pytest.fixture(scope="session")
def crun_runs() -> None:
    """On a hybrid host crun runs when cgroup v2 has no controller left. It stays so until all who run tests side by
    side have ended: others launch instances meanwhile."""
    controllers = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    for _ in range(10):  # those of a hierarchy that was just unmounted come back a little later
        names = controllers.read_text().strip() if controllers.exists() else ""
        if names:
            first = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
            folder = Path(tempfile.gettempdir()) / f"{HYBRID}{first}"
            folder.mkdir(exist_ok=True)
            mount("none", folder, "cgroup", data=names.replace(" ", ","))
            return
        time.sleep(0.05)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """After the last of those who run tests side by side: have the control groups as they were, also after a run that
    was killed."""
    if hasattr(session.config, "workerinput"):
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{HYBRID}*"):
        name = folder.name.removeprefix(HYBRID)
        if name == str(os.getpid()) or not Path(f"/proc/{name}").exists():
            if folder.is_mount():
                unmount(folder)
            folder.rmdir()


@pytest.fixture(scope="session")
def layers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Two layers with busybox."""
    first, second = (make_erofs(tmp_path_factory.mktemp("layer")) for _ in range(2))
    return first, second.rename(second.with_stem("again"))


@pytest.fixture
async def stage(installation: Installation, layers: tuple[Path, ...]) -> AsyncIterator[Stage]:
    """A stage whose instances have these layers."""
    async with staged(installation, layers) as made:
        yield made


@pytest.fixture(scope="session")
def _seed() -> None:
    """Says that a test begins with what ``pytest_collection_finish`` has built."""


@pytest.fixture
def machine(_seed: None) -> Iterator[Machine]:
    """A machine with its controller running and the guestbook's repository, nothing deployed."""
    with Machine() as made:
        yield made.use().start()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository in a folder of its own."""
    return Repository(tmp_path / "source")


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """A builder with a store of its own, in which a build leaves nothing unfinished, and nothing mounted."""
    made = Workshop(tmp_path / "workshop")
    yield made
    assert made.leftovers() == []
    assert mounts_below(tmp_path) == ()
