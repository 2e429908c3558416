"""The same digest on another machine and on another day, without a network; and a network that is not needed.

The example is built once with the network, and its inputs are kept between runs in /var/tmp/stelae-test-cache. What
builds it again is a process of its own, for which as much as possible is another: see ``elsewhere``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from stelae.build.reproduce import Reproducer
from stelae.build.request import BuildRequest, BuildResult
from tests.real.keeping import CACHE
from tests.unit.build.repository import Repository
from tests.unit.build.workshop import Workshop

pytestmark = [
    pytest.mark.real,
    pytest.mark.network,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("bwrap") is None, reason="needs root and bubblewrap"),
]

GUESTBOOK = Path(__file__).parents[2] / "examples" / "guestbook"
CHILD = Path(__file__).with_name("build_apart.py")
YEARS = 3 * 365
CLOSED = "http://127.0.0.1:9"  # nothing answers there


class Site:
    """The example, built once, with its lock; ``request`` builds it again by that lock and fetches nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = Repository(folder / "source")
        self.workshop = Workshop(folder / "workshop")
        (CACHE / "inputs").mkdir(parents=True, exist_ok=True)
        (self.workshop.folder / "inputs").symlink_to(CACHE / "inputs")
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(GUESTBOOK, self.repository.folder, dirs_exist_ok=True, ignore=ignored)
        self.repository.commit({}, "The example")
        self.built: BuildResult = self.workshop.build(self.repository)
        self.request = replace(self.workshop.send(self.repository), lock=self.built.lock, offline=True)

    def apart(
        self, place: Path, request: BuildRequest, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Build in a process of its own below *place*, started by *prefix*, with *env* in its environment."""
        inputs = self.workshop.folder / "inputs"
        done = subprocess.run(
            [*prefix, sys.executable, CHILD, place, self.workshop.folder / "sources", inputs],
            input=json.dumps({**asdict(request), "secrets": {}}), text=True, capture_output=True, check=False,
            env={**os.environ, **(env or {})}, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on another file system, which lists files in another order."""
    with tempfile.TemporaryDirectory(prefix="stelae-test-", dir="/dev/shm") as name:
        yield Path(name) / "another" / "folder"


def clock() -> str:
    """Return the folder that holds libfaketime."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return str(library.parent)


def elsewhere() -> tuple[list[str], dict[str, str]]:
    """Return how a process is started as on another machine, three years later, with the network cut: another host
    name, one CPU, another umask; and its environment: time zone, language, user, order of names in folders, archive
    and index."""
    if shutil.which("faketime") is None:
        pytest.skip("needs faketime")
    prefix = [
        "unshare", "--net", "--uts", "--", "sh", "-c", 'hostname elsewhere; umask 077; exec "$@"', "sh",
        "taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), "faketime", "-f", f"+{YEARS}d",
    ]  # fmt: skip
    return prefix, {
        "SHUFFLED": "1", "CLOCK": clock(), "FAKETIME": f"+{YEARS}d", "TZ": "Pacific/Kiritimati",
        "LC_ALL": "tr_TR.UTF-8", "LANG": "de_DE.UTF-8", "USER": "ana", "LOGNAME": "ana", "HOME": "/nonexistent",
        "STELAE_DEBIAN_MIRROR": f"{CLOSED}/debian", "http_proxy": CLOSED, "https_proxy": CLOSED,
    }  # fmt: skip


def test_three_years_later_on_another_machine_without_a_network(site: Site, memory: Path) -> None:
    prefix, env = elsewhere()
    found = site.apart(memory, site.request, prefix, env)
    assert found["layers"] == {layer.name: layer.digest for layer in site.built.layers}
    assert found["image"] == site.built.image.digest
    assert found["lock"] == site.built.lock


def test_the_record_is_reproduced_and_a_difference_is_named(site: Site, tmp_path: Path) -> None:
    shop = site.workshop
    reproducer = Reproducer(shop.layout, shop.mirror, tmp_path / "again", shop.folder / "inputs")
    text = (site.repository.folder / "stelae.toml").read_text()
    changed = text.replace("-q --invalidation-mode unchecked-hash app", "-q app")
    assert changed != text
    site.repository.commit({"stelae.toml": changed}, "Bytecode by time")
    request = replace(shop.send(site.repository), lock=site.built.lock, offline=True)
    report = reproducer.reproduce(site.built.image.digest, request)
    site.repository.commit({"stelae.toml": text}, "As it was")
    assert not report.equal
    assert [layer.name for layer in report.layers] == ["run"]
    paths = {item.path: item.how for layer in report.layers for item in layer.paths}
    assert any(path.endswith(".pyc") and how == ("content from byte 5",) for path, how in paths.items())
    assert list((tmp_path / "again").iterdir()) == []
