"""Applications that other people wrote, from the package registries: how one is shown to be built, run, made again.

``tests/fixtures/apps`` holds of each only its stelae.toml and the lock of its dependencies.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from stelae.domain.digest import parse_digest
from stelae.images.layout import Layout
from tests.real.machine import ROOT, Machine
from tests.real.test_inside import found_by_syft, is_package

FIXTURES = ROOT / "tests" / "fixtures" / "apps"


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One application: what GET *path* answers must hold *says*, and at least *packages* are inside, by kind."""

    name: str
    path: str
    says: bytes
    packages: Mapping[str, int]


JUPYTERLAB = App(name="jupyterlab", path="/lab", says=b"<title>JupyterLab</title>", packages={"pypi": 90, "deb": 80})
NODE_RED = App(name="node-red", path="/", says=b"<title>Node-RED</title>", packages={"npm": 265, "deb": 70})
FRONTAIL = App(name="frontail", path="/", says=b"frontail", packages={"npm": 150, "deb": 70})


@contextmanager
def machine_of(app: App) -> Iterator[Machine]:
    """A machine with the repository of *app*."""
    with Machine(seed=False) as machine:
        yield machine.use(FIXTURES / app.name).start()


def prove(machine: Machine, app: App) -> str:
    """Lock, build, deploy and ask the app of *machine*; look into it and make it again from what is kept. Return the
    image's digest."""
    seconds, start = {}, time.monotonic()

    def took(what: str) -> None:
        nonlocal start
        seconds[what], start = time.monotonic() - start, time.monotonic()

    locked = machine.json("lock")
    assert locked["written"]
    machine.commit("lock").cli("env", "apply")
    took("lock")
    built = machine.json("build")
    image = str(built["image"])
    took("build")
    machine.cli("deploy", "testing")
    assert app.says in answer(machine, app)
    took("deploy")
    assert machine.json("reproduce", "testing", "--offline")["equal"]
    took("reproduce")
    found = inside(machine, image)
    took("syft")
    counts = Counter(kind for kind, *_ in found)
    assert all(counts[kind] >= least for kind, least in app.packages.items()), counts
    shown = machine.json("show", image)["proof"]
    assert all(shown[name]["ok"] for name in ("signature", "provenance", "sbom"))
    size = sum(layer["size"] for layer in built["layers"])
    print(f"{app.name}: {image[:19]}, {size / 1e6:.1f} MB, inputs {len(locked['changes'])}, inside {dict(counts)}")
    print("  " + ", ".join(f"{what} {value:.1f} s" for what, value in seconds.items()))
    return image


def build_offline(machine: Machine) -> str:
    """Build with an empty cache and without a network, from the store of inputs, and return the digest."""
    shutil.rmtree(machine.installation.cache / "build" / "steps")
    built = machine.json("build", "--offline")
    assert not any(layer["cached"] for layer in built["layers"])
    return str(built["image"])


def answer(machine: Machine, app: App) -> bytes:
    """What the app answers through the proxy."""
    url = f"http://127.0.0.1:{machine.installation.http_port}{app.path}"
    request = urllib.request.Request(url, headers={"Host": f"{app.name}.testing.localhost"})
    with urllib.request.urlopen(request, timeout=10) as found:
        assert found.status == 200
        return bytes(found.read())


def inside(machine: Machine, image: str) -> set[tuple[str, ...]]:
    """What the list of *image* says is inside, as kinds, names and versions; it is what Syft finds."""
    document = json.loads(machine.cli("show", image, "--sbom").stdout)
    ours = {item["purl"].partition("?")[0] for item in document["components"] if "purl" in item}
    place: Any = SimpleNamespace(layout=Layout.open(machine.installation.images))
    theirs = {
        item["purl"].partition("?")[0]
        for item in found_by_syft(place, parse_digest(image), machine.folder)
        if item["type"] != "npm" or is_package(item)
    }
    theirs = {purl.lower() if purl.startswith("pkg:npm/") else purl for purl in theirs}  # as a purl of npm must be
    assert ours == theirs, (sorted(ours - theirs)[:9], sorted(theirs - ours)[:9])
    return {tuple(purl.removeprefix("pkg:").split("/", 1)) for purl in ours}


def built_elsewhere(source: Path, **environment: str) -> str:
    """Build a clone of the repository at *source* on another machine, in another time zone, and return the digest."""
    before = os.umask(0o077)
    try:
        with Machine(seed=False) as other:
            other.app = other.folder / "another" / "folder"
            other.app.parent.mkdir()
            subprocess.run(["git", "clone", "-q", source, other.app], check=True)
            other.start(TZ="Pacific/Kiritimati", LC_ALL="C", **environment)
            return str(other.json("build")["image"])
    finally:
        os.umask(before)
