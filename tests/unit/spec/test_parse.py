"""Documents that are right: what they become."""

from pathlib import Path

import pytest

from stelae.domain.job import Job, When
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.process import Health, Moves, Probe, Process, Tmpfs
from stelae.domain.recipe import Copy, Limits, Recipe, Stage
from stelae.domain.strategy import Strategy, StrategyKind
from stelae.domain.units import GIB, HOUR, MIB, MINUTE, SECOND
from stelae.spec.document import parse
from tests.unit.spec.samples import document, toml

REGISTRY = "oci:registry.example:5000/team/base:12@sha256:" + "0" * 64
ROOT = Path(__file__).parents[3]


def test_the_least_document_gets_the_defaults_of_the_domain() -> None:
    spec = parse(toml(document()))
    assert spec.app == "shop"
    assert spec.recipe == Recipe(base="debian:bookworm")
    web, worker = spec.processes
    assert web == Process(name="web", command=("python3", "-m", "shop"), health=Health(probe=Probe.TCP), port=8000)
    assert worker.health == Health(probe=Probe.RUNNING)
    testing, staging, production = spec.environments
    assert [env.id for env in spec.environments] == ["shop/testing", "shop/staging", "shop/production"]
    assert testing.processes == {"web": 1, "worker": 1}
    assert (testing.strategy, testing.bake, testing.hosts, testing.promote_from) == (Strategy(), 0, (), "")
    assert staging.settings == {}
    assert production.promote_from == "staging"


def test_every_key_arrives_where_it_belongs() -> None:
    spec = parse((ROOT / "docs" / "stelae.toml").read_bytes())
    assert spec.recipe == Recipe(
        base="debian:bookworm",
        packages=("python3", "libpq5"),
        python="requirements.lock",
        files=("app", "migrations"),
        exclude=("docs", "*.md"),
        copy=(Copy(stage="assets", path="/app/dist", to="/app/static"),),
        secrets=("pip.conf",),
        stages=(
            Stage(
                name="assets",
                base="debian:bookworm",
                packages=("nodejs",),
                node="package-lock.json",
                files=("package.json", "web"),
                run=("node_modules/.bin/esbuild web/main.js --bundle --outfile=dist/main.js",),
            ),
        ),
        run=("python3 -m compileall -q app",),
        workdir="/app",
        user="app",
    )
    web, worker = spec.processes
    assert (web.health.probe, web.health.path, web.health.timeout) == (Probe.HTTP, "/healthz", 2 * SECOND)
    assert (web.cpu, web.memory, web.pids, web.tmpfs) == (500, 256 * MIB, 256, (Tmpfs(path="/tmp", size=64 * MIB),))
    assert (worker.cpu, worker.moves, worker.health.start) == (2000, Moves.AFTER_TRAFFIC, 10 * SECOND)
    migrate, smoke = spec.jobs
    assert smoke.when is When.ON_DEMAND
    assert (migrate.name, migrate.command) == ("migrate", ("python3", "-m", "app.migrate"))
    assert (migrate.when, migrate.timeout, migrate.irreversible) == (When.BEFORE_TRAFFIC, 10 * MINUTE, True)
    assert (migrate.cpu, migrate.tmpfs) == (1000, (Tmpfs(path="/tmp", size=64 * MIB),))
    testing, staging, production, cluster = spec.environments
    assert (production.platform, cluster.platform.kind) == (PlatformChoice(), PlatformKind.KUBERNETES)
    assert cluster.platform.repository("guestbook") == "registry.example.com/apps/guestbook"
    assert testing.routed_hosts == ("guestbook.testing.localhost",)
    assert staging.strategy == Strategy(kind=StrategyKind.BLUE_GREEN)
    assert staging.settings == {"LOG_LEVEL": "info"}
    assert production.hosts == ("guestbook.example.com",)
    assert production.bake == 10 * MINUTE
    assert production.strategy.kind is StrategyKind.CANARY  # its keys: test_strategy
    assert testing.strategy == Strategy(batch_count=1)
    assert production.promote_from == "staging"


def test_each_value_overrides_its_default() -> None:
    spec = parse(
        toml(
            document(
                {
                    "image.workdir": "/srv/shop",
                    "image.user": "shop_1",
                    "image.files": [],
                    "image.limits": {"time": "1h", "memory": "64MiB", "disk": "1GiB"},
                    "image.copy": [{"from": "one", "path": "/opt/x"}, {"from": "two", "path": "/x", "to": "/y"}],
                    "image.stage.one": {"secrets": ["a.b"], "workdir": "/w", "python": "uv.lock",
                                        "base": "oci:/srv/base:v1", "exclude": ["*.md"]},
                    "image.stage.two": {"base": "scratch", "copy": [{"from": "one", "path": "/x"}]},
                    "process.web.drain": "1m",
                    "process.web.stop": "0s",
                    "process.web.memory": "1GiB",
                    "process.web.cpu": 1.5,
                    "process.web.pids": 1,
                    "process.web.health": {"path": "/", "interval": "5s", "timeout": "1s", "start": "1m"},
                    "process.web.tmpfs": {"/var/tmp": "1MiB", "/srv/shop/cache": "2MiB"},
                    "process.worker.moves": "with-traffic",
                    "env.testing.strategy": {
                        "batch": "50%", "min_healthy": "0s", "progress": "1m", "platform": "2m",
                    },
                }
            )
        )
    )  # fmt: skip
    web, worker = spec.processes
    assert (spec.recipe.workdir, spec.recipe.user) == ("/srv/shop", "shop_1")
    assert spec.recipe.files == ()
    assert spec.recipe.limits == Limits(time=HOUR, memory=64 * MIB, disk=GIB)
    assert spec.recipe.copy == (Copy(stage="one", path="/opt/x", to="/opt/x"), Copy(stage="two", path="/x", to="/y"))
    assert spec.recipe.stages == (
        Stage(
            name="one", base="oci:/srv/base:v1", secrets=("a.b",), workdir="/w", python="uv.lock", exclude=("*.md",)
        ),
        Stage(name="two", base="scratch", copy=(Copy(stage="one", path="/x", to="/x"),)),
    )  # fmt: skip
    assert spec.recipe.stage("two").base == "scratch"
    assert (web.drain, web.stop, web.memory, web.cpu, web.pids) == (MINUTE, 0, GIB, 1500, 1)
    assert web.health == Health(probe=Probe.HTTP, path="/", interval=5 * SECOND, timeout=SECOND, start=MINUTE)
    assert web.tmpfs == (Tmpfs(path="/srv/shop/cache", size=2 * MIB), Tmpfs(path="/var/tmp", size=MIB))
    assert worker.moves is Moves.WITH_TRAFFIC
    assert spec.environments[0].strategy == Strategy(batch=50, min_healthy=0, progress=MINUTE, platform=2 * MINUTE)


@pytest.mark.parametrize("base", ["debian:trixie", "oci:/images/base:v1", "oci:/srv/base.tar", "scratch", REGISTRY])
def test_bases(base: str) -> None:
    assert parse(toml(document({"image.base": base}))).recipe.base == base


def test_text_and_bytes_are_the_same() -> None:
    text = toml(document())
    assert parse(text) == parse(text.encode()) == parse(text.replace("\n", "\r\n"))


def test_a_document_needs_no_environments() -> None:
    made = document()
    del made["env"]
    assert parse(toml(made)).environments == ()


def test_a_whole_float_is_a_whole_number() -> None:
    port = parse(toml(document({"process.web.port": 8000.0}))).processes[0].port
    assert port == 8000
    assert type(port) is int


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*/stelae.toml")), ids=lambda path: path.parent.name)
def test_the_examples_are_right(path: Path) -> None:
    assert parse(path.read_bytes()).environments


@pytest.mark.parametrize(
    ("given", "irreversible"),
    [
        ({}, False),
        ({"when": "on-demand"}, False),
        ({"when": "before-traffic"}, True),
        ({"when": "before-traffic", "reversible": True}, False),
        ({"when": "on-demand", "reversible": False}, True),
    ],
)
def test_a_job_before_traffic_cannot_be_undone_unless_it_says_so(
    given: dict[str, object], irreversible: bool
) -> None:
    (job,) = parse(toml(document({"job.seed": {"command": ["x"], **given}}))).jobs
    when = When.BEFORE_TRAFFIC if given.get("when") == "before-traffic" else When.ON_DEMAND
    assert job == Job(name="seed", command=("x",), when=when, irreversible=irreversible)


def test_jobs_keep_the_order_of_the_file() -> None:
    spec = parse(toml(document({"job.z": {"command": ["x"]}, "job.a": {"command": ["y"]}})))
    assert [job.name for job in spec.jobs] == ["z", "a"]
