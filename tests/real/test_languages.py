"""Dependencies from real locks: the same as npm's own, run by the image's own Node and Python, and offline."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from stelae.build.config import architecture
from stelae.build.sandbox import lay_out
from stelae.domain.digest import Digest
from stelae.domain.inputs import InputKind
from stelae.images import content
from stelae.images.layer_tar import read_layer
from stelae.images.roots import Roots
from tests.real.building import kept
from tests.unit.build.repository import Repository
from tests.unit.build.test_node_deps import Place
from tests.unit.build.workshop import Workshop, spec

pytestmark = [pytest.mark.real, pytest.mark.network]

FIXTURES = Path(__file__).parents[1] / "fixtures" / "languages"

CHECK_JS = """
const app = require('express')()
app.get('/', (_, answer) => answer.send(require('esbuild').transformSync('let x: number = 1', {loader: 'ts'}).code))
const server = app.listen(0, () => require('http').get({host: '127.0.0.1', port: server.address().port}, (answer) => {
  answer.on('data', (data) => process.stdout.write(data))
  answer.on('end', () => server.close())
}))
"""
CHECK_PY = "import flask, httpx, markupsafe, redis; print(flask.Flask('x').test_client().get('/').status_code)"


@pytest.fixture
def debian() -> Workshop:
    """A builder whose store is kept between runs, for what the archives give."""
    return Workshop(kept("languages"))


def run(workshop: Workshop, digest: Digest, folder: Path, *command: str) -> str:
    """Run a command in the image's read-only root, as nobody, without a network; return what it prints."""
    roots = Roots(workshop.layout, folder / "layers", folder / "mounts")
    try:
        done = subprocess.run(
            ["bwrap", "--unshare-all", "--uid", "10001", "--gid", "10001",
             "--ro-bind", str(roots.mount_image(digest)), "/", "--proc", "/proc", "--dev", "/dev",
             "--chdir", "/app", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin", *command],
            capture_output=True, check=False, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout
    finally:
        roots.unmount_unused(())


def test_an_app_of_two_languages(debian: Workshop, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "source")
    image = 'packages = ["nodejs", "python3"]\nnode = "package-lock.json"\npython = "uv.lock"\n'
    script = "cd node_modules/esbuild && node install.js"  # an install script runs where the recipe says so only
    text = spec(f'{image}run = ["{script}"]', base="debian:bookworm")
    for path in (FIXTURES / "node" / "package-lock.json", FIXTURES / "python" / "uv.lock"):
        repository.commit({path.name: path.read_text()})
    repository.commit({"stelae.toml": text, "check.js": CHECK_JS})
    result = debian.build(repository)
    assert [layer.name for layer in result.layers] == ["base", "python", "node", "system", "files", "run"]
    programs = [content.read(tree.resolve(b"app/node_modules/esbuild/bin/esbuild").content)[:4] for tree in
                (read_layer(debian.layout.blob_path(Digest(result.layers[at].digest))) for at in (2, 5))]  # fmt: skip
    assert programs == [b"#!/u", b"\x7fELF"]
    assert run(debian, result.image.digest, tmp_path, "node", "check.js") == "let x = 1;\n"
    assert run(debian, result.image.digest, tmp_path, "python3", "-c", CHECK_PY) == "404\n"
    # Debian 12 has Python 3.11.2, and redis needs this below 3.11.3.
    taken = {(item.kind, item.name) for item in result.inputs}
    assert (InputKind.WHEEL, "async-timeout") in taken
    assert (InputKind.NPM, "@esbuild/linux-x64") in taken or architecture() != "amd64"
    assert not any(name == "typescript" for _, name in taken)
    assert any("scripts were not run: node_modules/esbuild" in line for line in debian.lines)

    # With the lock, a new cache and no network the same image comes out of the store of inputs.
    repository.commit({"stelae.lock": result.lock})
    for step in ("python", "wheels", "wheel", "node", "npm", "npm-packages", "libc"):
        shutil.rmtree(debian.cache / "steps" / step, ignore_errors=True)
    again = debian.builder.build(replace(debian.send(repository), offline=True))
    assert [layer.name for layer in again.layers if not layer.cached][:2] == ["python", "node"]
    assert again.image.digest == result.image.digest
    assert again.inputs == result.inputs


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_the_same_as_npm(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    shutil.copytree(FIXTURES / "node", theirs)
    subprocess.run(
        ["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=theirs, check=True,
        capture_output=True, env={**os.environ, "npm_config_cache": str(tmp_path / "npm")}, umask=0o022,
    )  # fmt: skip
    place = Place(tmp_path / "place")
    made = place.make((FIXTURES / "node" / "package-lock.json").read_bytes())
    lay_out(place.tree(made), ours)
    (theirs / "node_modules" / ".package-lock.json").unlink()  # npm's own note of what it did
    assert shown(ours / "app" / "node_modules") == shown(theirs / "node_modules")


def shown(top: Path) -> dict[str, tuple[str, bytes]]:
    """Return what is below *top*. Of modes only the owner's execution counts: npm lets 0744 be as it is packed."""
    found = {}
    for path in top.rglob("*"):
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = ("link", os.fsencode(path.readlink()))
        elif path.is_dir():
            found[name] = ("folder", b"")
        else:
            found[name] = ("program" if path.stat().st_mode & 0o100 else "file", path.read_bytes())
    return found
