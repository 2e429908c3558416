"""Build again on a whole machine: what the controller reproduces, checks twice, and builds with the world cut off."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.real.building import shell
from tests.real.machine import Machine
from tests.unit.build.test_builder import oci_base

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SPEC = """
[app]
name = "again"

[image]
base = "{base}"
run = ["echo made >made", "{line}"]

[process.web]
command = ["sleep", "1000000"]

[env.testing]
processes = {{ web = 1 }}
"""

CUT = """#!/bin/sh
[ -n "$STELAE_CUT" ] || STELAE_CUT=1 exec unshare --net -- "$0" "$@"
ip link set lo up && exec {python} "$@"
"""


@pytest.fixture
def again(tmp_path: Path) -> Machine:
    """A machine without a seed, and the repository of an app on a base of its own; the controller does not run."""
    if shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap")
    tree = shell("sh", "echo", "head", "sleep")
    machine = Machine(seed=False)
    machine.app.mkdir()
    machine.git("init", "-q", "-b", "main")
    (machine.app / "stelae.toml").write_text(SPEC.format(base=oci_base(tmp_path / "base", tree), line="echo same"))
    return machine.commit("first")


def never_the_same(machine: Machine) -> None:
    """Commit a line of ``run`` that writes something else each time."""
    machine.edit("stelae.toml", "echo same", "head -c 16 /dev/urandom >random").commit("random")


def test_what_the_record_names_is_built_again_and_compared(again: Machine) -> None:
    with again as machine:
        machine.start().cli("lock")
        machine.commit("lock")
        image = machine.json("build")["image"]
        commit = machine.git("rev-parse", "HEAD")
        for ref in (image, image[7:19], commit):
            found = machine.json("reproduce", ref)
            assert (found["equal"], found["image"], found["made"], found["commit"]) == (True, image, image, commit)
        assert "the same image" in machine.cli("build", "--check").stdout
        machine.cli("up")
        assert machine.json("reproduce", "testing")["equal"]

        never_the_same(machine)
        other = machine.json("build")["image"]
        done = machine.cli("reproduce", other, check=False)
        assert (done.returncode, "app/random  content from byte 1" in done.stdout) == (1, True), done.stdout
        assert "app/made" not in done.stdout
        found = json.loads(machine.cli("reproduce", other, "--json", check=False).stdout)
        assert (found["equal"], [layer["name"] for layer in found["layers"]]) == (False, ["run"])
        before = machine.client.get("/v1/ping")["size"]
        checked = machine.cli("build", "--check", check=False)
        assert (checked.returncode, "app/random" in checked.stdout) == (1, True), checked.stdout
        assert machine.client.get("/v1/ping")["size"] == before, "to look is no event"
        nothing = machine.cli("reproduce", "0" * 12, check=False)
        assert (nothing.returncode, "no image" in nothing.stderr) == (2, True)
        assert list((machine.installation.cache / "build" / "work").glob("*")) == []


def test_two_clones_of_one_commit_give_one_digest(again: Machine) -> None:
    with again as one, Machine(seed=False) as two:
        one.start(TZ="America/New_York", LC_ALL="C")
        first = one.json("build")
        one.git("clone", "-q", str(one.app), str(two.folder / "app"))
        two.start(TZ="Asia/Tokyo", LC_ALL="C.UTF-8", HOME="/nonexistent")
        second = two.json("build")
        assert (second["image"], second["commit"]) == (first["image"], first["commit"])
        assert not any(layer["cached"] for layer in second["layers"])


def test_with_the_world_cut_off_all_comes_from_the_store(again: Machine, tmp_path: Path) -> None:
    with again as machine:
        machine.start().cli("lock")
        machine.commit("lock")
        image = machine.json("build")["image"]
        machine.stop()
        shutil.rmtree(machine.installation.cache)
        (tmp_path / "base").rename(tmp_path / "gone")

        cut = tmp_path / "cut"
        cut.write_text(CUT.format(python=sys.executable))
        cut.chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "executable", str(cut))
            machine.start()
        assert machine.controller is not None
        network = Path(f"/proc/{machine.controller.pid}/ns/net").readlink()
        assert network != Path("/proc/self/ns/net").readlink()
        built = machine.json("build", "--offline")
        assert built["image"] == image
        assert any(not layer["cached"] for layer in built["layers"]), "made again, of what is kept"
        assert machine.json("reproduce", image, "--offline")["equal"]

        machine.edit("stelae.toml", "[image]", '[image]\npython = "requirements.lock"')
        machine.write("requirements.lock", f"idna==3.10 --hash=sha256:{'0' * 64}\n").commit("more than is kept")
        refused = machine.cli("build", "--offline", check=False)
        assert (refused.returncode, "run: stelae lock" in refused.stderr) == (2, True), refused.stderr
