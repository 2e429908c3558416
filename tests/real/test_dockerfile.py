"""A Dockerfile by the real buildah: the same bytes twice, nothing of the host, nothing left behind."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stelae.attest.contents import Inspector
from stelae.attest.provenance import provenance
from stelae.build.reproduce import Reproducer
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.images import content
from stelae.images.layout import image_of
from stelae.images.tree import Tree, directory, file
from stelae.system.mount import mounts_below
from tests.real.building import TOOLS, shell
from tests.real.test_build_registry import Registry
from tests.unit.attest.samples import ABOVE, BASE, build_of, packaged
from tests.unit.build.repository import Repository
from tests.unit.build.test_builder import oci_base
from tests.unit.build.workshop import Workshop

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("buildah") is None, reason="needs root and buildah"),
]

SPEC = """
[app]
name = "shop"

[image]
dockerfile = "Dockerfile"
{image}

[process.web]
port = 8000
{process}

[env.testing]
processes = {{ web = 1 }}
"""


def spec(image: str = "", process: str = "") -> str:
    return SPEC.format(image=image, process=process)


@pytest.fixture
def base(tmp_path: Path) -> str:
    """An image with a shell, as FROM names it."""
    tree = shell(*TOOLS, "date", "mount", "ps", "od", "stat", "find", "sort")
    tree.add(b"etc/passwd", file(b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\n"))
    tree.add(b"etc/group", file(b"root:x:0:\nteam:x:77:\n"))
    tree.add(b"opt/gone/inside", file(b"lower"))
    tree.add(b"opt/owned", directory(0o700, uid=7, gid=8))
    return oci_base(tmp_path / "base", tree, ["PATH=/bin", "OF_BASE=yes"])


EVERYTHING = """\
# syntax=whatever/it:is
ARG BASE={base}
FROM ${{BASE}} AS build
RUN echo made > /made && ln /made /twin && chown 7:8 /made
FROM {base}
ENV GREETING="hello there"
COPY --from=build /made /twin /srv/
COPY --chown=app:team . /app/
RUN rm -r /opt/gone; echo x > /tmp/temporary; echo y > /run/state; mkdir -p /var/log/apt /var/lib/apt/lists; \\
    date > /var/log/apt/history.log; date > /var/lib/apt/lists/today; head -c 16 /dev/urandom > /etc/machine-id; \\
    echo $SOURCE_DATE_EPOCH $PYTHONHASHSEED > /epoch; stat -c %Y /app/serve > /time
WORKDIR /app
USER app:team
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["exec serve"]
"""


def test_a_dockerfile_becomes_an_image(repository: Repository, workshop: Workshop, base: str) -> None:
    files = {
        "serve": "served",
        "Dockerfile": EVERYTHING.format(base=base),
        "docs/page.md": "x",
        "stelae.toml": spec(),
    }
    repository.commit({**files, ".dockerignore": "docs\nDockerfile\n.dockerignore\n"})
    result = workshop.build(repository)
    assert [layer.name for layer in result.layers] == ["dockerfile", "dockerfile", "system"]
    tree = workshop.tree(result.image.digest)
    assert content.read(tree[b"app/serve"].content) == b"served"
    assert (tree[b"app/serve"].uid, tree[b"app/serve"].gid) == (1000, 77)
    assert sorted(path for path in tree if path.startswith(b"app/")) == [b"app/serve"]
    assert content.read(tree[b"srv/made"].content) == content.read(tree[b"srv/twin"].content) == b"made\n"
    assert (tree[b"srv/made"].uid, tree[b"srv/made"].gid, tree[b"opt/owned"].uid) == (7, 8, 7)
    assert content.read(tree[b"epoch"].content) == b"1704067200 0\n"
    assert content.read(tree[b"time"].content) == b"1704067200\n"
    gone = (
        b"opt/gone",
        b"tmp/",
        b"run/",
        b"etc/machine-id",
        b"var/log/apt/",
        b"var/lib/apt/lists/",
        b"work",
        b"twin",
    )
    assert not any(path.startswith(gone) for path in tree)
    config = workshop.layout.config(result.image.digest)["config"]
    assert (config["User"], config["WorkingDir"]) == ("1000:77", "/app")
    assert {"GREETING=hello there", "OF_BASE=yes", "PATH=/bin"} <= set(config["Env"])
    assert not any(item.startswith(("SOURCE_DATE_EPOCH", "PYTHONHASHSEED")) for item in config["Env"])
    assert image_of(workshop.layout, result.image.digest).processes[0].command == ("/bin/sh", "-c", "exec serve")
    assert [(item.kind, item.name) for item in result.inputs] == [("image", base)]


def test_the_same_digest_twice_and_cached_by_content(repository: Repository, workshop: Workshop, base: str) -> None:
    repository.commit({"serve": "1", "Dockerfile": EVERYTHING.format(base=base), "stelae.toml": spec(),
                       ".dockerignore": "*.md\n"})  # fmt: skip
    first = workshop.build(repository)
    again = Workshop(workshop.folder / "again")
    before = os.umask(0o077)
    try:
        assert again.build(repository).image.digest == first.image.digest
    finally:
        os.umask(before)
    # What the Dockerfile does not see builds nothing again: neither a document nor a change of the environments.
    repository.commit({"README.md": "x", "stelae.toml": spec(process='memory = "64MiB"')})
    second = workshop.build(repository)
    assert all(layer.cached for layer in second.layers)
    repository.commit({"serve": "2"})
    third = workshop.build(repository)
    assert not third.layers[1].cached
    assert third.layers[0] == replace(first.layers[0], cached=third.layers[0].cached)  # the base is shared


def test_the_spec_has_the_last_word(repository: Repository, workshop: Workshop, base: str) -> None:
    text = spec('user = "web"', 'command = ["/bin/ls"]\ntmpfs = { "/data/tmp" = "1MiB" }')
    repository.commit({"Dockerfile": f"FROM {base}\nUSER 5:6\nCMD echo hello\n", "stelae.toml": text})
    digest = workshop.build(repository).image.digest
    assert workshop.layout.config(digest)["config"]["User"] == "10001:10001"
    assert image_of(workshop.layout, digest).processes[0].command == ("/bin/ls",)
    assert b"data/tmp" in workshop.tree(digest)
    repository.commit({"Dockerfile": f"FROM {base}\nUSER 5:6\nCMD echo hello\n", "stelae.toml": spec()})
    digest = workshop.build(repository).image.digest
    assert workshop.layout.config(digest)["config"]["User"] == "5:6"
    assert image_of(workshop.layout, digest).processes[0].command == ("/bin/sh", "-c", "echo hello")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("FROM {base}\nUSER nobody-knows\nCMD x\n", "USER nobody-knows"),
        ("FROM {base}\nENTRYPOINT []\n", "neither ENTRYPOINT nor CMD"),
        ("FROM busybox:1\nCMD x\n", "names no digest"),
        ("FROM busybox\nCMD x\n", "names no digest"),
        ("FROM {base}\nCOPY --from=busybox:1 /x /x\nCMD x\n", "names no digest"),
        ("FROM $NONE\nCMD x\n", "NONE has no value"),
        ("FROM --platform=linux/riscv64 {base}\nCMD x\n", "one architecture"),
        ("RUN true\n", "no FROM"),
    ],
)
def test_what_cannot_be_built(repository: Repository, workshop: Workshop, base: str, lines: str, said: str) -> None:
    repository.commit({"Dockerfile": lines.format(base=base), "stelae.toml": spec()})
    with pytest.raises(InvalidInput, match=said):
        workshop.build(repository)
    assert [image for image in workshop.layout.images() if image.name] == []


def test_a_line_that_fails_shows_its_output(repository: Repository, workshop: Workshop, base: str) -> None:
    repository.commit({"Dockerfile": f"FROM {base}\nRUN echo so far; exit 7\n", "stelae.toml": spec()})
    with pytest.raises(Failed, match="could not build") as caught:
        workshop.build(repository)
    assert any("so far" in line for line in caught.value.details)
    assert any("7" in line for line in caught.value.details[-3:])


def test_nothing_of_the_host_is_seen(
    repository: Repository, workshop: Workshop, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STELAE_TEST_SECRET", "hunter2")
    (tmp_path / "visible").write_text("x")
    lines = [
        "env > /env", "(wget -T 2 -q -O /got http://127.0.0.1:1/ || echo refused > /got)", "ip link > /links",
        "cat /proc/self/uid_map > /users", f"(ls {tmp_path} > /host 2>&1 || true)", "ls /sys > /sysfiles; true",
        # Opened for writing, but nothing is written: a sandbox that fails this must not hurt the machine.
        "((: >> /proc/sys/kernel/core_pattern) && echo open > /escaped || true)",
        "((: >> /proc/sysrq-trigger) && echo open > /escaped || true)",
        "for p in /proc/[0-9]*; do cat $p/environ $p/cmdline >> /first; ls $p/root/ >> /roots; done 2>&-; true",
    ]  # fmt: skip
    text = f"FROM {base}\n" + "".join(f"RUN {line}\n" for line in lines) + 'CMD ["x"]\n'
    repository.commit({"Dockerfile": text, "stelae.toml": spec()})
    tree = workshop.tree(workshop.build(repository).image.digest)
    said = {path: content.read(node.content) for path, node in tree.items() if b"/" not in path and node.size < 10**6}
    assert b"hunter2" not in said[b"env"] + said[b"first"]
    assert said[b"got"] == b"refused\n"
    assert [line for line in said[b"links"].splitlines() if b": lo" not in line and line[:1] != b" "] == []
    assert said[b"users"].split() == [b"0", b"1879048192", b"65536"]
    assert b"visible" not in said[b"host"]
    assert b"escaped" not in tree
    # Another process of the sandbox, whose root is not that of the container, shows the host's programs and no more.
    assert {b"usr", b"work"} <= set(said[b"roots"].split())
    assert not {b"home", b"root/.ssh", b"var/lib/stelae"} & set(said[b"roots"].split())


def test_secrets_are_read_and_stay_nowhere(repository: Repository, workshop: Workshop, base: str) -> None:
    line = "RUN --mount=type=secret,id=npmrc cat /run/secrets/npmrc > /dev/null && {then}\n"
    ask = spec('secrets = ["npmrc"]')
    repository.commit(
        {"Dockerfile": f"FROM {base}\n" + line.format(then="echo read > /read") + "CMD x\n", "stelae.toml": ask}
    )
    secret = {"npmrc": b"hunter2-of-the-registry\n"}
    result = workshop.builder.build(replace(workshop.send(repository), secrets=secret), workshop.lines.append)
    assert content.read(workshop.tree(result.image.digest)[b"read"].content) == b"read\n"
    for path in workshop.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"hunter2" not in path.read_bytes(), path
    leak = f"FROM {base}\n" + line.format(then="cat /run/secrets/npmrc > /leak; cat /run/secrets/npmrc") + "CMD x\n"
    repository.commit({"Dockerfile": leak})
    with pytest.raises(InvalidInput, match="the build needs the secret npmrc"):
        workshop.build(repository)
    with pytest.raises(Failed, match="would put a secret into the image"):
        workshop.builder.build(replace(workshop.send(repository), secrets=secret), workshop.lines.append)
    assert not any("hunter2" in text for text in workshop.lines)


def test_limits_hold(repository: Repository, workshop: Workshop, base: str) -> None:
    repository.commit({"Dockerfile": f"FROM {base}\nRUN sleep 60\n", "stelae.toml": spec('limits.time = "2s"')})
    start = time.monotonic()
    with pytest.raises(Failed, match="did not end within 2s"):
        workshop.build(repository)
    assert time.monotonic() - start < 20
    big = f"FROM {base}\nRUN for n in 1 2 3; do dd if=/dev/zero of=/$n bs=1M count=60; done; sleep 9\n"
    repository.commit({"Dockerfile": big, "stelae.toml": spec('limits.disk = "64MiB"')})
    with pytest.raises(Failed, match="wrote more than 64MiB"):
        workshop.build(repository)


def test_a_builder_that_is_killed_leaves_nothing(
    repository: Repository, workshop: Workshop, base: str, tmp_path: Path
) -> None:
    mark = f"{time.time_ns() % 100_000_000 + 1_000_000}"
    text = f"FROM {base}\nRUN echo begun; sleep {mark}\nCMD x\n"
    repository.commit({"Dockerfile": text, "stelae.toml": spec()})
    program = (
        "import sys; from pathlib import Path; from tests.unit.build.workshop import Workshop; "
        "from tests.unit.build.repository import Repository; "
        "r = Repository.__new__(Repository); r.folder = Path(sys.argv[2]); "
        "w = Workshop(Path(sys.argv[1])); w.builder.build(w.send(r), lambda line: print(line, flush=True))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(workshop.folder), str(repository.folder)], stdout=subprocess.PIPE,
        text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert child.stdout is not None
    try:
        for line in child.stdout:
            if line.strip() == "run: begun":
                break
        else:
            pytest.fail("the build did not begin")
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        deadline = time.monotonic() + 30
        while _sleeping(mark) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _sleeping(mark) == []
    finally:
        child.kill()
        child.wait(10)
        child.stdout.close()
    assert mounts_below(tmp_path) == ()
    assert workshop.leftovers() != []  # files only: the next build takes them away
    repository.commit({"Dockerfile": f"FROM {base}\nCMD x\n"})
    workshop.build(repository)


def _sleeping(mark: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().split(b"\0")[:2] == [b"sleep", mark.encode()]:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_tag_is_what_the_lock_says(repository: Repository, workshop: Workshop, base: str, tmp_path: Path) -> None:
    if shutil.which("docker-registry") is None:
        pytest.skip("needs docker-registry")
    registry = Registry(tmp_path / "registry")
    try:
        first = registry.push(base, "team/base:1", "--preserve-digests")
        name = f"{registry.address}/team/base:1"
        repository.commit({"Dockerfile": f"FROM {name}\nCMD x\n", "stelae.toml": spec()})
        with pytest.raises(InvalidInput, match="names no digest"):
            workshop.build(repository)
        lock = workshop.builder.lock(workshop.send(repository)).text
        assert f'"{name}" = "1 {first}"' in lock
        repository.commit({"stelae.lock": lock})
        built = workshop.build(repository)
        assert [item.digest for item in built.inputs] == [first]
        tree = Tree()
        tree.add(b"other", file(b"x"))
        second = registry.push(oci_base(tmp_path / "other", tree), "team/base:1", "--preserve-digests")
        assert second != first
        assert workshop.builder.lock(workshop.send(repository)).text == lock
        upgraded = workshop.builder.lock(workshop.send(repository), upgrade=True).text
        assert str(second) in upgraded
    finally:
        registry.stop()
    # The registry is gone, the tag has moved; what was locked is built again from the store of inputs.
    for path in (workshop.cache, workshop.layout.folder):
        shutil.rmtree(path)
    again = Workshop(workshop.folder)
    asked = replace(again.send(repository), offline=True)
    assert again.builder.build(asked, again.lines.append).image.digest == built.image.digest
    repository.commit({"Dockerfile": f"FROM {name[:-1]}2\nCMD x\n"})
    with pytest.raises(InvalidInput, match=r"names no digest|stale"):
        again.build(repository)
    repository.commit({"stelae.lock": ""})
    with pytest.raises((InvalidInput, Unreachable)):
        again.builder.lock(again.send(repository))


def test_what_is_not_the_same_twice_is_named(repository: Repository, workshop: Workshop, base: str) -> None:
    lines = "RUN cat /proc/uptime > /when; head -c 8 /dev/urandom > /lots; echo same > /same\n"
    repository.commit({"Dockerfile": f"FROM {base}\n{lines}CMD x\n", "stelae.toml": spec()})
    reproducer = Reproducer(workshop.layout, workshop.mirror, workshop.folder / "again", workshop.folder / "inputs")
    report = reproducer.check(workshop.send(repository))
    assert not report.equal
    (layer,) = report.layers
    assert [change.path for change in layer.paths] == ["lots", "when"]
    repository.commit({"Dockerfile": f"FROM {base}\nRUN echo same > /same\nCMD x\n"})
    assert reproducer.check(workshop.send(repository)).equal


def test_what_is_inside_is_found(repository: Repository, workshop: Workshop, tmp_path: Path) -> None:
    """Packages of the base, and those that the Dockerfile adds."""
    tree = Tree()
    for path, data in BASE.items():
        tree.add(path, file(data))
    image = oci_base(tmp_path / "packaged", tree)
    added = {f"above/{path.decode()}": data for path, data in ABOVE.items()}
    text = f"FROM {image}\nCOPY above/ /\nCMD x\n"
    repository.commit({"Dockerfile": text, "stelae.toml": spec('user = "app"'), **added})
    digest = workshop.build(repository).image.digest
    found = Inspector(workshop.layout, tmp_path / "contents").contents(digest)
    wanted = Inspector(workshop.layout, tmp_path / "wanted").contents(packaged(workshop.layout, "other"))
    assert found.packages
    assert {(item.kind, item.name, item.version) for item in found.packages} == {
        (item.kind, item.name, item.version) for item in wanted.packages
    }


def test_a_network_only_where_the_spec_asks_for_it(repository: Repository, workshop: Workshop, base: str) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"fetched")

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        asked = "echo 'GET / HTTP/1.0'; echo"
        line = f"RUN ({asked}) | /bin/busybox nc -w 5 127.0.0.1 {server.server_address[1]} > /got\n"
        repository.commit({"Dockerfile": f"FROM {base}\n{line}CMD x\n", "stelae.toml": spec()})
        with pytest.raises(Failed, match="could not build") as caught:
            workshop.build(repository)
        assert "dockerfile_network" in caught.value.hint
        repository.commit({"stelae.toml": spec("dockerfile_network = true")})
        result = workshop.build(repository)
    except Failed as error:
        pytest.fail("\n".join(error.details))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert result.network
    assert content.read(workshop.tree(result.image.digest)[b"got"].content).endswith(b"fetched")
    build = build_of(workshop.layout, result.image.digest)
    inside = Inspector(workshop.layout, workshop.folder / "contents").contents(result.image.digest)
    for network in (True, False):
        said = provenance(replace(build, network=network), inside.distribution, {})
        assert said["buildDefinition"]["internalParameters"].get("network", False) is network
