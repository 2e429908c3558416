"""From one Stelae to another by a registry, and into the tools that others use: skopeo, podman, docker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from bench.dockerd import docker_daemon

from stelae.build.config import architecture, manifest_bytes
from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest
from stelae.images import referrers
from stelae.images.layout import Layout
from stelae.system.mount import MNT_DETACH, mounts_below, unmount
from tests.real import tiny
from tests.real.machine import Machine
from tests.real.registries import auth_file, authority, running
from tests.unit.build.repository import Repository
from tests.unit.build.workshop import Workshop, spec

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("docker-registry") is None, reason="needs root and docker-registry"
    ),
]


def test_from_one_installation_to_another(tmp_path: Path) -> None:
    """Push here, pull there, with a password and TLS; the same bytes, the same signatures, and it serves."""
    given = authority(tmp_path / "authority")
    with (
        running(tmp_path / "registry", tls=tmp_path / "authority", password=True) as registry,
        Machine(seed=False) as one,
        Machine(seed=False) as other,
    ):
        login = ["--authfile", auth_file(tmp_path / "auth.json", registry.address), "--cert-dir", given]
        name = f"{registry.address}/tiny"
        tiny.make(one.start())
        first = one.json("build")["image"]
        pushed = one.json("push", first, f"{name}:1", *login)
        assert (pushed["name"], pushed["listed"]) == (f"{name}@{first}", False)
        assert pushed["referrers"] >= 3

        tiny.make(other.start())
        refused = other.cli("pull", f"{name}:1", "--cert-dir", given, check=False)
        assert refused.returncode == 1
        assert "does not let us in" in refused.stderr
        assert "skopeo login" in refused.stderr
        pulled = other.json("pull", f"{name}:1", *login)
        assert (pulled["image"], pulled["moved"], pulled["keys"]) == (first, "", [])
        assert pulled["strangers"] == pushed["referrers"]
        here, there = (Layout.open(machine.installation.images) for machine in (one, other))
        assert set(referrers.digests(here, Digest(first))) == set(referrers.digests(there, Digest(first)))
        other.cli("deploy", "testing", "--image", first)
        assert tiny.ask(other) == "version 1"

        # With the key of the other, what it signed counts; and a tag that moved is said.
        (key,) = one.json("key", "list")["keys"]
        (tmp_path / "one.pem").write_text(key["pem"])
        other.cli("key", "import", tmp_path / "one.pem")
        tiny.version(one, "2")
        second = one.json("build")["image"]
        one.cli("push", second, f"{name}:1", *login)
        moved = other.cli("pull", f"{name}:1", *login)
        assert first in moved.stderr + moved.stdout
        assert second in moved.stdout
        assert "moved" in moved.stderr + moved.stdout
        history = other.cli("history").stdout
        assert f"from {name} by its tag 1" in history
        assert other.json("show", second)["sources"] == []
        trusted = other.client.get("/v1/proofs", ref=second)
        assert trusted["trusted"]
        assert all(trusted[what]["ok"] for what in ("signature", "provenance", "sbom"))
        # Credentials are in no log, record or folder of either.
        for machine in (one, other):
            for path in (machine.installation.state, machine.installation.run):
                for file in path.rglob("*"):
                    if file.is_file() and file.stat().st_size < 10**6:
                        with suppress(OSError):  # a file of a kernel's mount
                            assert b"correct horse" not in file.read_bytes(), file
            assert list(machine.installation.run.glob("registry-*")) == []
            assert list(machine.installation.cache.glob("transfer-*")) == []
        # Nothing runs that is not known.
        other.at_rest()


def test_an_image_of_others_is_not_taken(tmp_path: Path) -> None:
    with running(tmp_path / "registry") as registry, Machine(seed=False) as machine:
        machine.start()
        layout = Layout.open(tmp_path / "other")
        config = canonical(
            {"architecture": architecture(), "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
        )
        layout.add_blob(config)
        layout.put_image(manifest_bytes(config, []), name="v1")
        copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout.folder}:v1"]
        subprocess.run([*copy, f"docker://{registry.address}/other:1"], check=True)
        done = machine.cli("pull", f"{registry.address}/other:1", check=False)
        assert done.returncode == 2
        assert "defines no processes" in done.stderr
        assert "base of a recipe" in done.stderr
        done = machine.cli("pull", f"{registry.address}/none:1", check=False)
        assert done.returncode == 2
        assert "the registry has no" in done.stderr


@pytest.fixture
def built(tmp_path: Path) -> tuple[Workshop, Digest]:
    """An image with a program that says hello."""
    program = shutil.which("busybox")
    if program is None:
        pytest.skip("needs busybox-static")
    repository = Repository(tmp_path / "source")
    repository.write({"busybox": Path(program).read_bytes(), "stelae.toml": spec()})
    (repository.folder / "busybox").chmod(0o755)
    repository.commit({})
    workshop = Workshop(tmp_path / "workshop")
    return workshop, workshop.build(repository).image.digest


def alone(workshop: Workshop, digest: Digest) -> str:
    """The image by skopeo in a layout of its own, with the digest that it has."""
    (name,) = [image.name for image in workshop.layout.images() if image.digest == digest]
    target = f"oci:{workshop.folder / 'copied'}:made"
    copy = [
        "skopeo",
        "--insecure-policy",
        "copy",
        "-q",
        "--preserve-digests",
        "--dest-oci-accept-uncompressed-layers",
    ]
    subprocess.run([*copy, f"oci:{workshop.layout.folder}:{name}", target], check=True)
    return target


def test_skopeo_copies_it_with_its_digest(built: tuple[Workshop, Digest]) -> None:
    workshop, digest = built
    alone(workshop, digest)
    index = json.loads((workshop.folder / "copied" / "index.json").read_bytes())
    assert [item["digest"] for item in index["manifests"]] == [digest]


@contextmanager
def unmounted(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        for mount in reversed(mounts_below(folder)):
            with suppress(OSError):
                unmount(mount.point, MNT_DETACH)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(shutil.which("podman") is None, reason="needs podman")
def test_podman_runs_it(built: tuple[Workshop, Digest], tmp_path: Path) -> None:
    workshop, digest = built
    folder = Path(f"/var/tmp/stelae-podman-{os.getpid()}")  # podman takes short names only
    command = [
        "podman", "--root", f"{folder}/root", "--runroot", f"{folder}/runroot", "--tmpdir", f"{folder}/tmp",
        "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "none",
        "--runtime", "runc", "run", "--rm", "--network=none", "--read-only", "--log-driver", "none", "-i",
        "--security-opt", "seccomp=unconfined", "--pull", "missing", alone(workshop, digest),
        "/app/busybox", "sh", "-c", "echo hello; /app/busybox id -u",
    ]  # fmt: skip
    with unmounted(folder):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["hello", "10001"]


def test_docker_loads_it(built: tuple[Workshop, Digest], tmp_path: Path) -> None:
    workshop, digest = built
    archive = tmp_path / "made.tar"
    copy = ["skopeo", "--insecure-policy", "copy", "-q", alone(workshop, digest), f"docker-archive:{archive}:made:1"]
    subprocess.run(copy, check=True)
    with docker_daemon(Path(f"/var/tmp/stelae-docker-{time.time_ns()}")) as docker:
        if docker is None:
            pytest.skip("needs dockerd")
        docker("load", "--input", str(archive))
        words = ["/app/busybox", "sh", "-c", "echo hello; /app/busybox id -u"]
        assert docker("run", "--rm", "--network", "none", "made:1", *words).split() == ["hello", "10001"]
        layers = json.loads(docker("inspect", "made:1"))[0]["RootFS"]["Layers"]
        assert layers == list(workshop.layout.layers(digest))
