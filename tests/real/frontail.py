"""frontail by its own Dockerfile, which begins FROM node:12-buster-slim and runs npm install.

No registry of images can be reached where the tests run, so its base is made here: Debian with Node, npm, and in
npm's cache the packages of the lock; a registry on this machine has it by that name, as a mirror would. A line of a
Dockerfile has no network, so npm is told in the base's environment to take everything from that cache.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stelae.images.layer_tar import read_layer
from stelae.images.tree import Tree, file, symlink
from tests.real.apps import FIXTURES, FRONTAIL
from tests.real.machine import Machine
from tests.real.test_build_registry import Registry
from tests.unit.build.repository import Repository
from tests.unit.build.test_builder import oci_base
from tests.unit.build.workshop import Workshop, spec

PACKAGES = {
    "frontail@4.9.2": "pR1Iqiw5d6oNuF57E3FqrQrlTTFmTaQ2QKKOo7C4QQf53d47cSIW+eGWoWRrGWxnnKoe3+HfWHgkZP15zJkf0w==",
    "npm@10.9.9": "1g+6jLQvaIuB4zwvHL7yrXuXcWZwDsCtBX8bbWDqbvJSSr9nPiDDWTHNgwXR27iIcTTW7v3A57hDW9RYv2W4Yg==",
}
"""The SHA-512 of what is taken from npm besides the packages of the lock."""

_CACHE = "var/tmp/npm"  # npm notes in it when it used what, and what lies there is in no layer of a Dockerfile
_MIRROR = '[[registry]]\nprefix = "docker.io/library/node"\nlocation = "{}/node"\ninsecure = true\n'


def unpacked(package: str, folder: Path) -> Path:
    """Make *folder* hold the files of an npm package."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = _npm("pack", "--json", package, cwd=folder.parent)
    archive = folder.parent / json.loads(done)[0]["filename"]
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    assert found == PACKAGES[package], f"npm gave another {package}"
    with tarfile.open(archive) as opened:
        opened.extractall(folder.parent / "unpacked", filter="data")
    (folder.parent / "unpacked" / "package").rename(folder)
    archive.unlink()
    return folder


def source(machine: Machine) -> Machine:
    """Make the repository of the app: the package as it is published, with stelae.toml and the lock."""
    unpacked("frontail@4.9.2", machine.app)
    for path in (FIXTURES / FRONTAIL.name).iterdir():
        assert not (machine.app / path.name).exists(), f"the package has its own {path.name} now"
        shutil.copy(path, machine.app)
    machine.git("init", "-q", "-b", "main")
    return machine.commit("frontail 4.9.2")


@contextmanager
def mirror(folder: Path, debian: Workshop) -> Iterator[Path]:
    """A registry that has the base; gives a home folder whose settings find it there."""
    home, registry = folder / "home", Registry(folder / "registry")
    settings = home / ".config" / "containers"
    settings.mkdir(parents=True)
    (settings / "registries.conf").write_text(_MIRROR.format(registry.address))
    try:
        registry.push(_base(folder, debian), "node:12-buster-slim", "--preserve-digests")
        yield home
    finally:
        registry.stop()


def _base(folder: Path, debian: Workshop) -> str:
    repository = Repository(folder / "debian")
    repository.commit({"stelae.toml": spec('packages = ["nodejs", "python3"]', base="debian:bookworm")})
    image = debian.build(repository).image.digest
    tree = read_layer(debian.layout.blob_path(debian.layout.layers(image)[0]))
    _put(tree, unpacked("npm@10.9.9", folder / "npm"), "usr/local/lib/node_modules/npm")
    tree.add(b"usr/local/bin/npm", symlink(b"../lib/node_modules/npm/bin/npm-cli.js"))
    work, cache = unpacked("frontail@4.9.2", folder / "frontail"), folder / "cache"
    shutil.copy(FIXTURES / FRONTAIL.name / "package-lock.json", work)
    _npm("ci", "--omit=dev", "--ignore-scripts", f"--cache={cache}", cwd=work)
    _put(tree, cache / "_cacache", f"{_CACHE}/_cacache")
    environment = {
        "cache": f"/{_CACHE}", "offline": "true", "registry": _npm("config", "get", "registry", cwd=folder).strip(),
        # npm would leave a log and a date.
        "logs_max": "0", "update_notifier": "false",
    }  # fmt: skip
    return oci_base(folder / "base", tree, [f"npm_config_{name}={value}" for name, value in environment.items()])


def _put(tree: Tree, folder: Path, where: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
            tree.add(os.fsencode(f"{where}/{path.relative_to(folder)}"), file(path.read_bytes(), mode))


def _npm(*arguments: str, cwd: Path) -> str:
    return subprocess.run(["npm", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout
