"""The digest of the example on Debian 13, whose tools are newer, from the same inputs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.real.test_reproducible import CHILD, Site

pytestmark = [pytest.mark.real, pytest.mark.network, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]
PACKAGES = "bubblewrap,ca-certificates,git,mount,python3,python3-venv,skopeo,util-linux"
# A user namespace cannot be made in a chroot: the root file system is changed in earnest, in a mount namespace.
INSIDE = """set -e; mount --rbind "$1" "$1"; cd "$1"; mkdir -p old; pivot_root . old; umount -l /old; cd /; shift
exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONPATH=/stelae/src "$@\""""


@pytest.fixture
def trixie(tmp_path: Path) -> Iterator[Path]:
    """The root of a Debian 13 with this builder and what it needs."""
    root = tmp_path / "root"
    run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={PACKAGES}", "trixie", str(root))
    for name in ("etc/resolv.conf", "etc/hosts", "etc/pip.conf", "etc/ssl/certs/ca-certificates.crt"):
        if Path("/", name).exists():
            shutil.copyfile(Path("/", name), root / name)
    shutil.copytree(ROOT / "src", root / "stelae/src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(CHILD, root / "stelae/build_apart.py")
    shutil.copyfile(ROOT / "requirements.lock", root / "stelae/requirements.lock")
    mounted = [("proc", "proc"), ("dev", "dev"), ("sys", "sys")]
    try:
        for source, place in mounted:
            run("mount", "--rbind", "--make-rslave", f"/{source}", str(root / place))
        run("chroot", str(root), "python3", "-m", "venv", "/venv")
        install = ["/venv/bin/pip", "install", "--quiet", "--requirement", "/stelae/requirements.lock"]
        run("chroot", str(root), *install)
        yield root
    finally:
        for _, place in mounted:
            subprocess.run(["umount", "--recursive", "--lazy", root / place], check=False, capture_output=True)


def run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_example_on_debian_13(trixie: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    site = Site(tmp_path_factory.mktemp("site"))
    for name in ("sources", "inputs"):
        shutil.copytree(site.workshop.folder / name, trixie / "stelae" / name)
    script = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", INSIDE, "sh", str(trixie)]
    run("chroot", str(trixie), "git", "config", "--global", "safe.directory", "*")
    done = subprocess.run(
        [*script, "/venv/bin/python", "/stelae/build_apart.py", "/root/made", "/stelae/sources", "/stelae/inputs"],
        input=json.dumps({**asdict(site.request), "secrets": {}}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    print(f"Debian 13: {found['image']}; here, Python {sys.version.split()[0]}: {site.built.image.digest}")
    assert found["layers"] == {layer.name: layer.digest for layer in site.built.layers}
    assert found["image"] == site.built.image.digest
