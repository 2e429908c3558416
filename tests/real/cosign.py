"""The real cosign, 2.5 and 3, and Debian's registry, cut off from every network but their own loopback.

The programs come from Debian's packages, unpacked once below the cache of the tests; nothing is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stelae.domain.digest import Digest
from stelae.images import referrers
from stelae.images.layout import MANIFEST, Layout
from tests.real import keeping

CACHE = keeping.CACHE / "cosign"
SUITES = {"2.5": "trixie", "3": "forky"}
"""Which release of Debian has which cosign."""

HOST = "localhost:5000"


def program(suite: str, name: str) -> list[str]:
    """Return how a program of *suite* is run: by that release's own loader and libraries."""
    root = _root(suite)
    loader = next(root.glob("usr/lib*/ld-linux-*"))
    libraries = next(path for path in root.glob("usr/lib/*-linux-gnu") if path.is_dir())
    return [str(loader), "--library-path", str(libraries), str(root / "usr/bin" / name)]


def _root(suite: str) -> Path:
    """Unpack cosign and the registry from *suite*; skips the test where that cannot be fetched."""
    packages = "cosign,docker-registry" if suite == "trixie" else "cosign"
    root = CACHE / f"{suite}-{packages.replace(',', '-')}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _unpack(suite, packages, root)
    return root


def _unpack(suite: str, packages: str, root: Path) -> None:
    archive, making = root.with_suffix(".tar"), root.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)
    # The archive of a release that is not out yet expires after a week; here its signature is what matters.
    done = subprocess.run(
        ["mmdebstrap", "--variant=extract", '--aptopt=Acquire::Check-Valid-Until "false"', f"--include={packages}",
         suite, str(archive)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"cosign of {suite} cannot be fetched: {done.stderr[-300:]}")
    with tarfile.open(archive) as opened:
        opened.extractall(making, [item for item in opened if item.name.startswith("./usr/")], filter="tar")
    archive.unlink()
    making.rename(root)


class Registry:
    """Debian's registry 2.8, which has no referrers API, in a network of its own."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder = folder
        self._pid = pid

    def run(self, argv: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        """Run *argv* where only the registry can be reached."""
        inside = ["nsenter", "-t", str(self._pid), "-n", *argv]
        return subprocess.run(inside, capture_output=True, text=True, check=False, **more)

    def push(self, layout: Layout, image: Digest, name: str) -> str:
        """Push *image* and what speaks of it, and return how other tools name it."""
        tag = next(item.name for item in layout.images() if item.digest == image)
        target = f"docker://{HOST}/{name}:latest"
        copy = ["skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false"]
        assert self.run([*copy, f"oci:{layout.folder}:{tag}", target]).returncode == 0
        return self._with_referrers(layout, image, name)

    def push_disk(self, layout: Layout, disk: Digest, name: str) -> str:
        """Push the disk *disk* and what speaks of it, as ``push`` does an image."""
        for digest in sorted(layout.blobs_of(disk) - {disk}):
            self._blob(name, digest, layout.blob_path(digest).read_bytes())
        self._manifest(name, disk, layout.blobs.read(disk), MANIFEST)
        return self._with_referrers(layout, disk, name)

    def _with_referrers(self, layout: Layout, image: Digest, name: str) -> str:
        for item in referrers.of(layout, image):
            for digest, data in item.blobs.items():
                self._blob(name, digest, data)
            self._manifest(name, item.digest, item.manifest, MANIFEST)
        self._manifest(
            name, image.replace(":", "-"), referrers.index(layout, image), "application/vnd.oci.image.index.v1+json"
        )
        return f"{HOST}/{name}@{image}"

    def _blob(self, name: str, digest: str, data: bytes) -> None:
        self._send("POST", f"/v2/{name}/blobs/uploads/", data, "application/octet-stream", digest)

    def _manifest(self, name: str, reference: str, data: bytes, kind: str) -> None:
        self._send("PUT", f"/v2/{name}/manifests/{reference}", data, kind, "")

    def _send(self, method: str, path: str, data: bytes, kind: str, digest: str) -> None:
        """Send *data* from inside the network; with *digest* it is a blob, whose upload has a place of its own."""
        (self.folder / "data").write_bytes(data)
        asked = json.dumps([method, f"http://{HOST}{path}", str(self.folder / "data"), kind, digest])
        done = self.run([sys.executable, "-I", "-c", _SEND, asked])
        assert done.returncode == 0, done.stderr


_SEND = """
import json, sys, urllib.request
method, url, file, kind, digest = json.loads(sys.argv[1])
data = open(file, "rb").read()
if digest:
    begun = urllib.request.urlopen(urllib.request.Request(url, data=b"", method="POST"))
    url, method = begun.headers["Location"] + "&digest=" + digest, "PUT"
request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": kind})
urllib.request.urlopen(request)
"""


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """Give a registry that keeps its data in *folder*."""
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
        f"http: {{addr: 127.0.0.1:{HOST.partition(':')[2]}}}\n"
    )
    serve = [*program("trixie", "docker-registry"), "serve", str(folder / "config.yml")]
    quoted = " ".join(f"'{item}'" for item in serve)
    with (folder / "registry.log").open("w") as log:
        process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", f"ip link set lo up && exec {quoted}"], stdout=log, stderr=log
        )
    try:
        found = Registry(folder, process.pid)
        deadline = time.monotonic() + 20
        probe = [sys.executable, "-I", "-c", f"import urllib.request as u; u.urlopen('http://{HOST}/v2/')"]
        while found.run(probe).returncode:
            assert process.poll() is None, (folder / "registry.log").read_text()
            assert time.monotonic() < deadline, (folder / "registry.log").read_text()
            time.sleep(0.1)
        yield found
    finally:
        process.kill()
        process.wait()
