"""Documents that are wrong: each mistake is told, with its path, what was expected and the nearest key."""

import copy
from typing import Any

import pytest

from stelae.domain.errors import InvalidInput
from stelae.spec.document import parse
from tests.unit.spec.samples import ABSENT, document, toml


def refusal(changes: dict[str, Any]) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        parse(toml(document(changes)))
    return caught.value


def lines(changes: dict[str, Any]) -> list[str]:
    error = refusal(changes)
    return list(error.details) or [str(error)]


def test_one_mistake_is_the_message() -> None:
    error = refusal({"env.production.strategy.min_healty": "1s"})
    assert str(error) == ('stelae.toml: env.production.strategy.min_healty: unknown key. Did you mean "min_healthy"?')
    assert error.details == ()
    assert error.exit_code == 2


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    error = refusal(
        {
            "app.name": "Shop",
            "image.pakages": [],
            "process.web.port": 80000,
            "process.web.command": ABSENT,
            "env.testing.processes": {"wep": 1},
            "process.worker.freeze": True,
            "env.production.promote_from": "stagin",
        }
    )
    assert str(error) == "stelae.toml: 7 problems"
    name = "a name of at most 31 characters: a to z, 0 to 9 and -, a letter first"
    one_of = "expected the name of one of this file's"
    assert [line.removeprefix("stelae.toml: ") for line in error.details] == [
        f'app.name: expected {name}, got "Shop"',
        'image.pakages: unknown key. Did you mean "packages"?',
        "process.web.port: expected a port from 1 to 65535, got 80000",
        "process.web.command: missing; expected a list of at least one string, the program first",
        "not supported yet: process.worker.freeze",
        f'env.testing.processes.wep: {one_of} processes, got "wep". Did you mean "web"?',
        f'env.production.promote_from: {one_of} environments, got "stagin". Did you mean "staging"?',
    ]


def test_the_file_is_named_as_it_was_given() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse("[app]\n", file="shop/stelae.toml")
    assert all(line.startswith("shop/stelae.toml: ") for line in caught.value.details)
    assert len(caught.value.details) == 3


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("image.python", "poetry.lock"),
        ("image.python", "locks/pdm.lock"),
        ("image.python", "Pipfile.lock"),
        ("process.web.freeze", True),
        ("process.worker.port", 9000),
        ("env.production.strategy.freeze", True),
    ],
)
def test_what_a_later_stelae_knows_is_not_supported_yet(path: str, value: object) -> None:
    (line,) = lines({path: value})
    assert line.startswith(f"stelae.toml: not supported yet: {path}")


@pytest.mark.parametrize(
    ("job", "text"),
    [
        ({"migrate": {}}, "job.migrate.command: missing; expected a list of at least one string, the program first"),
        ({"migrate": {"command": []}}, "job.migrate.command: expected a list of at least one string"),
        ({"migrate": {"command": [" "]}}, "job.migrate.command[0]: expected the name of a program, got nothing"),
        ({"migrate": {"command": ["x"], "when": "before-trafic"}}, 'Did you mean "before-traffic"?'),
        ({"migrate": {"command": ["x"], "timeout": "0s"}}, "job.migrate.timeout: expected a duration above 0"),
        ({"migrate": {"command": ["x"], "irreversible": True}}, 'unknown key. Did you mean "reversible"?'),
        ({"migrate": {"command": ["x"], "port": 1}}, "job.migrate.port: unknown key"),
        ({"migrate": {"command": ["x"], "cpu": 2000}}, "job.migrate.cpu: expected a number of cores"),
        ({"migrate": {"command": ["x"], "tmpfs": {"/proc/x": "1MiB"}}}, "apart from /proc"),
        ({"Migrate": {"command": ["x"]}}, "job.Migrate: expected a name of at most 20 characters"),
        ({"web": {"command": ["x"]}}, "job.web: expected another name than that of a process"),
        ({"run": {"command": ["x"]}}, 'job.run: expected another name than "run"'),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(job: dict[str, Any], text: str) -> None:
    (line,) = lines({"job": job})
    assert text in line


@pytest.mark.parametrize("place", ["", "app.", "image.", "process.web.", "process.web.health.", "env.testing."])
@pytest.mark.parametrize("key", ["volumes", "mounts", "volume"])
def test_volumes_are_refused_with_the_reason_and_the_way_out(place: str, key: str) -> None:
    (line,) = lines({f"{place}{key}": ["/data"]})
    assert line.startswith(f"stelae.toml: {place}{key}: volumes are refused")
    for word in ("replaced and never kept", "lost", "shared between two releases", "host.stelae.internal",
                 "network", "settings"):  # fmt: skip
        assert word in line


def test_a_process_may_be_called_volumes() -> None:
    parse(toml(document({"process.volumes": {"command": ["x"]}})))


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("app.name", "-shop", "a name"),
        ("app.name", "s" * 32, "a name"),
        ("app", "shop", "a table"),
        ("image.base", "debian:", "debian:SUITE"),
        ("image.base", "ubuntu:noble", "debian:SUITE"),
        ("image.base", "", "an empty string"),
        ("image.packages", ["Python3"], "the name of a Debian package"),
        ("image.packages", ["-o=x"], "the name of a Debian package"),
        ("image.packages", ["python3", "python3"], "listed twice"),
        ("image.packages", "python3", "a list of package names"),
        ("image.python", "/etc/requirements.txt", "inside the repository"),
        ("image.python", "../requirements.txt", "inside the repository"),
        ("image.python", "a/../../b", "inside the repository"),
        ("image.exclude", ["../x"], "a glob pattern"),
        ("image.exclude", ["/"], "a glob pattern"),
        ("image.run", [" "], "a command line that is not empty"),
        ("image.workdir", "app", "an absolute path"),
        ("image.workdir", "/", "an absolute path"),
        ("image.workdir", "/proc/app", "a folder apart from"),
        ("image.user", "root", "not root"),
        ("image.user", "0", "the name of a user"),
        ("process.web.command", "python3 app.py", "a list of at least one string"),
        ("process.web.command", [], "an empty list"),
        ("process.web.command", [""], "the name of a program"),
        ("process.web.command", ["x", 1], "a string"),
        ("process.web.port", 0, "a port from 1 to 65535"),
        ("process.web.port", True, "got true"),
        ("process.web.port", "8000", "a port from 1 to 65535"),
        ("process.web.port", 8000.5, "a port from 1 to 65535"),
        ("process.web.health.path", "healthz", "begins with /"),
        ("process.web.health.path", "/x HTTP/1.1", "no spaces"),
        ("process.web.health.timeout", "0s", "above 0"),
        ("process.web.health.interval", "0ms", "above 0"),
        ("process.web.health.start", 30, "above 0"),
        ("process.worker.health.path", "/healthz", "a port beside it"),
        ("process.worker.drain", "5s", "only for a process with a port"),
        ("process.web.moves", "with-traffic", "only for a process without a port"),
        ("process.worker.moves", "with-trafic", 'Did you mean "with-traffic"?'),
        ("process.web.drain", "30", "a duration"),
        ("process.web.memory", "256MB", "a size"),
        ("process.web.cpu", 0, "a number of cores"),
        ("process.web.cpu", 0.00001, "a number of cores"),
        ("process.web.cpu", "two", "a number of cores"),
        ("process.web.pids", 0, "a number from 1"),
        ("env.testing.processes", {}, "an empty table"),
        ("env.testing.processes.web", -1, "from 0 to 1000"),
        ("env.testing.processes.web", "2", "from 0 to 1000"),
        ("env.testing.settings.PORT", "1", "which Stelae sets"),
        ("env.testing.settings.STELAE_APP", "1", "which Stelae sets"),
        ("env.testing.settings.lower", "1", "A to Z"),
        ("env.testing.settings.N", 1, "a string"),
        ("env.testing.hosts", ["Shop.example.com"], "lower case"),
        ("env.testing.hosts", ["a_b"], "a host name"),
        ("env.testing.hosts", ["a" * 64], "a host name"),
        ("env.testing.strategy", "roling", 'Did you mean "rolling"?'),
        ("env.testing.strategy", ["rolling"], "the name of a strategy, or a table"),
        ("env.testing.strategy.batch", "0%", "a share"),
        ("env.testing.strategy.progress", "0s", "above 0"),
        ("env.testing.bake", "long", "a duration"),
        ("env.testing.promote_from", "testing", "another environment"),
        ("env.staging.promote_from", "production", "circle"),
    ],
)
def test_a_wrong_value_is_told_with_its_path(path: str, value: object, expected: str) -> None:
    found = lines({path: value})
    assert any(line.startswith(f"stelae.toml: {path}") and expected in line for line in found)


@pytest.mark.parametrize("path", ["app", "app.name", "image", "image.base", "process", "process.web.command"])
def test_what_is_missing_is_told(path: str) -> None:
    assert any(line.startswith(f"stelae.toml: {path}: missing; expected ") for line in lines({path: ABSENT}))


@pytest.mark.parametrize("name", ["Web", "1web", "w" * 21, "w b", ""])
def test_names_of_processes(name: str) -> None:
    made = document()
    made["process"][name] = {"command": ["x"]}
    with pytest.raises(InvalidInput, match="a name of at most 20 characters"):
        parse(toml(made))


@pytest.mark.parametrize("path", ["/", "tmp", "/proc", "/proc/x", "/sys/fs", "/dev/shm", "/etc", "/etc/hosts",
                                  "/a/../b", "/a//b", "/tmp/", "/app"])  # fmt: skip
def test_tmpfs_stays_away_from_the_system(path: str) -> None:
    (line,) = lines({"process.web.tmpfs": {path: "1MiB"}})
    assert line.startswith("stelae.toml: process.web.tmpfs")


def test_one_tmpfs_is_not_inside_another() -> None:
    (line,) = lines({"process.web.tmpfs": {"/tmp": "1MiB", "/tmp/x": "1MiB", "/tmpx": "1MiB"}})
    assert '"/tmp/x"' in line
    assert "another tmpfs" in line


def test_a_circle_of_promotions_is_told_once() -> None:
    made = document({f"env.{name}.promote_from": origin for name, origin in
                     [("testing", "staging"), ("staging", "production"), ("production", "staging")]})  # fmt: skip
    with pytest.raises(InvalidInput) as caught:
        parse(toml(made))
    assert str(caught.value) == (
        "stelae.toml: env.staging.promote_from: goes round in a circle: staging <- production <- staging"
    )


def test_recreate_keeps_nothing_warm() -> None:
    (line,) = lines({"env.testing.strategy": "recreate", "env.testing.bake": "1m"})
    assert line.startswith("stelae.toml: env.testing.bake: ")
    parse(toml(document({"env.testing.strategy": "recreate", "env.testing.bake": "0s"})))


def test_a_batch_belongs_to_rolling() -> None:
    (line,) = lines({"env.testing.strategy": {"kind": "blue-green", "batch": "50%"}})
    assert line.startswith("stelae.toml: env.testing.strategy.batch: only for")


def test_a_host_leads_to_one_environment() -> None:
    found = lines({"env.testing.hosts": ["a.example", "a.example"], "env.staging.hosts": ["b.example", "a.example"]})
    assert found == [
        'stelae.toml: env.testing.hosts[1]: "a.example" is a host of this environment already',
        'stelae.toml: env.staging.hosts[1]: "a.example" is a host of env.testing already',
    ]


def test_a_host_may_not_take_the_name_that_another_environment_has_by_default() -> None:
    assert lines({"env.testing.hosts": ["shop.staging.localhost"]})


def test_packages_need_debian() -> None:
    (line,) = lines({"image.base": "oci:/base", "image.packages": ["python3"], "image.python": "requirements.lock"})
    assert line == 'stelae.toml: image.packages: expected a base "debian:SUITE", not "oci:/base"'


def test_scratch_installs_nothing() -> None:
    found = lines({"image.base": "scratch", "image.packages": ["python3"], "image.python": "requirements.lock"})
    assert [line.split(": ")[1] for line in found] == ["image.packages", "image.python"]
    assert lines({"image.base": "scratch", "image.node": "package-lock.json"})[0].endswith("which has no Node")


STAGE = {"base": "debian:bookworm", "run": ["make"]}
COPY = [{"from": "build", "path": "/app/shop"}]


def staged(changes: dict[str, Any]) -> list[str]:
    return lines({"image.stage.build": dict(STAGE), "image.copy": copy.deepcopy(COPY), **changes})


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("image.base", "oci:base", "a tag alone may move"),
        ("image.base", "oci:registry.example/base:1", "a tag alone may move"),
        ("image.base", "oci:registry.example/base@sha256:12", "a tag alone may move"),
        ("image.node", "yarn.lock", "expected a file called package-lock.json"),
        ("image.node", "../package-lock.json", "inside the repository"),
        ("image.files", ["a", "a"], "listed twice"),
        ("image.files", "a", "a list of patterns"),
        ("image.copy", {"from": "build"}, "a list of at most 100 tables"),
        ("image.secrets", ["A"], "the name of a secret"),
        ("image.secrets", ["../x"], "the name of a secret"),
        ("image.limits", "1GiB", "a table of time, memory and disk"),
        ("image.limits.time", "0s", "a duration above 0"),
        ("image.limits.memory", "lots", "a size"),
        ("image.limits.disk", 10, "a size"),
        ("image.limits.cpu", 1, "unknown key"),
        ("image.stage", [], "at most 20 tables"),
        ("image.stage.Build", {"base": "scratch"}, "a name"),
        ("image.stage.build.base", "ubuntu", "debian:SUITE"),
        ("image.stage.build.user", "app", "unknown key"),
        ("image.stage.build.python", "Pipfile", "stelae init says how"),
        ("image.stage.build.workdir", "/proc/app", "a folder apart from"),
        ("image.stage.build.limits", {}, "unknown key"),
    ],
)
def test_what_is_wrong_in_an_image_of_stages(path: str, value: object, expected: str) -> None:
    found = staged({path: value})
    assert any(path in line and expected in line for line in found), found


@pytest.mark.parametrize(
    ("item", "line"),
    [
        ({"path": "/a"}, "image.copy[0].from: missing; expected a name"),
        (
            {"from": "buld", "path": "/a"},
            'image.copy[0].from: expected the name of a stage, got "buld". Did you mean',
        ),
        ({"from": "build", "path": "a"}, "image.copy[0].path: expected an absolute path"),
        ({"from": "build", "path": "/a", "to": "/etc/../b"}, "image.copy[0].to: expected an absolute path"),
        ({"from": "build", "path": "/proc/x"}, "image.copy[0].path: expected a place apart from /proc"),
        ({"from": "build", "path": "/x", "to": "/etc/hosts"}, "image.copy[0].to: expected a place apart from"),
        ({"from": "build", "path": "/a", "owner": "x"}, "image.copy[0].owner: unknown key"),
        ("build", "image.copy[0]: expected a table with from and path"),
    ],
)
def test_what_is_wrong_in_a_copy(item: object, line: str) -> None:
    found = staged({"image.copy": [*COPY, item]})
    assert [one for one in found if one.startswith("stelae.toml: " + line.replace("[0]", "[1]"))], found


def test_a_stage_copies_from_those_above_it_only() -> None:
    later = {"base": "scratch", "copy": [{"from": "build", "path": "/x"}]}
    parse(toml(document({"image.stage.build": dict(STAGE), "image.stage.later": later,
                         "image.copy": [{"from": "later", "path": "/x"}]})))  # fmt: skip
    made = document({"image.stage.later": later, "image.stage.build": dict(STAGE),
                     "image.copy": [{"from": "later", "path": "/x"}]})  # fmt: skip
    with pytest.raises(
        InvalidInput, match=r"image\.stage\.later\.copy\[0\]\.from: expected a stage that stands above"
    ):
        parse(toml(made))
    itself = {"base": "scratch", "copy": [{"from": "build", "path": "/x"}]}
    assert "stands above" in staged({"image.stage.build": itself})[0]


def test_a_stage_that_nothing_is_copied_from_is_a_mistake() -> None:
    (line,) = lines({"image.stage.build": dict(STAGE)})
    assert line == "stelae.toml: image.stage.build: nothing is copied from it"


def test_secrets_need_a_step_that_reads_them() -> None:
    (line,) = lines({"image.secrets": ["npmrc"]})
    assert line.startswith("stelae.toml: image.secrets: expected run, python or node beside it")
    parse(toml(document({"image.secrets": ["npmrc"], "image.run": ["x"]})))


def test_one_mistake_makes_no_second() -> None:
    assert len(lines({"process.web.port": 0, "process.web.health.path": "/healthz"})) == 1
    assert len(lines({"process.web": "python3"})) == 1
    assert len(lines({"env.staging.processes": 1})) == 1


def test_unknown_keys_far_from_any_are_answered_with_those_that_exist() -> None:
    (line,) = lines({"env.testing.zzzz": 1})
    known = "processes, settings, hosts, strategy, bake, promote_from, require, verify_for, approvals"
    assert f"unknown key; known here: {known}" in line


def test_what_is_printed_of_a_document_is_short_and_plain() -> None:
    made = document()
    made["app"]["k\u202eey" * 1000] = 1
    made["image"]["base"] = "debian:\u202e" + "x" * 100_000
    with pytest.raises(InvalidInput) as caught:
        parse(toml(made))
    assert all(len(line) < 400 and line.isascii() for line in caught.value.details)
    assert "\u202e" not in "".join(caught.value.details)
