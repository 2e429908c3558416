"""A compiler in a stage, its static binary on scratch, deployed and served; equal anywhere, cut off early."""

from __future__ import annotations

import os
import secrets
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from stelae.images import content
from tests.real.building import kept
from tests.real.keeping import keep, lend
from tests.real.machine import ROOT, Machine
from tests.unit.build.repository import Repository
from tests.unit.build.workshop import Workshop, spec

pytestmark = [pytest.mark.real, pytest.mark.network]

SPEC = """
[app]
name = "tiny"

[image]
base = "scratch"
files = []
copy = [{ from = "build", path = "/app/serve" }]

[image.stage.build]
base = "debian:bookworm"
packages = ["gcc", "libc6-dev"]
files = ["*.c"]
run = ["gcc -static -Os -s -o serve serve.c"]

[process.web]
command = ["/app/serve"]
port = 8000

[env.testing]
processes = { web = 1 }
"""

SERVE = r"""
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
/* first */
int main(void) {
  const char *answer = "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\ncarved";
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8000)};
  int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 64)) return 1;
  for (;;) {
    char request[4096];
    int peer = accept(listener, 0, 0);
    if (peer < 0) continue;
    if (read(peer, request, sizeof request) > 0) write(peer, answer, strlen(answer));
    shutdown(peer, SHUT_WR);
    while (read(peer, request, sizeof request) > 0) {}
    close(peer);
  }
}
"""


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine that keeps the stage's Debian for later test runs."""
    seed = kept("stages")
    with Machine(seed=False) as made:
        made.installation.state.mkdir()
        if seed.is_dir():
            lend(seed, made.installation.state)
        made.app.mkdir()
        made.write("stelae.toml", SPEC).write("serve.c", SERVE)
        made.git("init", "-q", "-b", "main")
        made.commit("A tiny server").start()
        yield made
        if not seed.exists():
            own = made.installation
            keep((own.images, own.cache, own.inputs), seed)


def test_a_compiler_stays_out_of_the_image_and_its_program_serves(machine: Machine, tmp_path: Path) -> None:
    machine.cli("env", "apply")
    built = machine.json("build")
    assert [layer["name"] for layer in built["layers"]] == ["system", "copy"]
    assert sum(layer["size"] for layer in built["layers"]) < 2_000_000
    machine.cli("deploy", "testing")
    url = f"http://127.0.0.1:{machine.installation.http_port}/"
    request = urllib.request.Request(url, headers={"Host": "tiny.testing.localhost"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.read() == b"carved"

    # A comment: the stage runs again, gives the same program, and nothing above it is made again.
    machine.edit("serve.c", "first", "second").commit("say it otherwise")
    again = machine.cli("build", "--json")
    found = machine.json("build")
    assert found["image"] == built["image"]
    assert built["image"] in again.stdout
    assert all(layer["cached"] for layer in found["layers"])
    assert found["seconds"] < 1

    # What changes the program changes the image, and only the layer of what is copied. No run of this test before
    # made the same: builds are kept from one to the next.
    word = secrets.token_hex(3)
    machine.edit("serve.c", "carved", word).commit("answer otherwise")
    changed = machine.json("build")
    assert [layer["name"] for layer in changed["layers"] if not layer["cached"]] == ["copy"]
    assert changed["image"] != built["image"]

    # Elsewhere, with nothing cached but the packages of Debian, the same digest comes out.
    repository = Repository(tmp_path / "elsewhere")
    repository.commit({"stelae.toml": SPEC, "serve.c": SERVE.replace("carved", word)}, "Another history")
    other = Workshop(tmp_path / "other")
    steps = machine.installation.cache / "build" / "steps" / "debian"
    shutil.copytree(steps, other.cache / "steps" / "debian")
    for path in (machine.installation.images / "blobs" / "sha256").glob("?*"):
        os.link(path, other.layout.folder / "blobs" / "sha256" / path.name)
    before = os.umask(0o077)
    try:
        result = other.build(repository)
    finally:
        os.umask(before)
    assert result.image.digest == changed["image"]
    assert any(line.startswith("build: run: gcc") for line in other.lines)


COMPILED = """
copy = [{ from = "assets", path = "/app/dist", to = "/app/public" }]
files = ["index.html"]

[image.stage.assets]
base = "debian:bookworm"
packages = ["nodejs", "python3"]
node = "package-lock.json"
files = ["*.ts"]
run = ["node_modules/.bin/tsc --outDir dist main.ts"]
"""


def test_what_node_compiles_in_a_stage_comes_without_its_compiler(tmp_path: Path) -> None:
    workshop = Workshop(kept("languages"))
    lock = ROOT / "tests" / "fixtures" / "languages" / "node" / "package-lock.json"
    repository = Repository(tmp_path / "source")
    main = "const greeting: string = 'carved';\nconsole.log(greeting);\n"
    text = spec(COMPILED)
    repository.commit({"stelae.toml": text, "index.html": "x", "main.ts": main, lock.name: lock.read_text()})
    result = workshop.build(repository)
    tree = workshop.tree(result.image.digest)
    assert {path for path in tree if path.startswith(b"app/")} == {
        b"app/index.html", b"app/public", b"app/public/main.js"
    }  # fmt: skip
    assert (
        content.read(tree[b"app/public/main.js"].content)
        == main.replace(": string", "").replace("const", "var").encode()
    )
    assert "typescript" in {item.name for item in result.inputs}
    repository.commit({"stelae.lock": result.lock})
    assert workshop.build(repository).image.digest == result.image.digest
    repository.commit({"index.html": secrets.token_hex()})  # no run of this test before made the same
    again = workshop.build(repository)
    assert [layer.name for layer in again.layers if not layer.cached] == ["files"]
    assert "assets: run: " in "".join(line for line in workshop.lines if "(cached)" in line)
