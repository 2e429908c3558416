"""The first stelae.toml of a repository."""

import json
import re
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stelae.domain.errors import InvalidInput
from stelae.domain.process import Probe
from stelae.domain.recipe import Copy
from stelae.spec.document import parse
from stelae.spec.initial import detect

HASHED = b"flask==3.1.2 \\\n    --hash=sha256:" + b"0" * 64 + b"\n"


def test_a_flask_application_with_a_lock() -> None:
    files = {
        "app.py": b"from flask import Flask\napplication = Flask(__name__)\n\n@application.get('/healthz')\n",
        "requirements.txt": b"flask\n",
        "requirements.lock": HASHED,
        "pyproject.toml": b'[project]\nname = "Guest_Book"\nrequires-python = ">=3.10"\n',
    }
    text = detect(files, "folder")
    spec = parse(text)
    assert spec.app == "guest-book"
    assert spec.recipe.python == "requirements.lock"
    assert spec.recipe.base == "debian:bookworm"
    (web,) = spec.processes
    assert web.command[:5] == ("python3", "-m", "flask", "--app", "app:application")
    assert (web.port, web.health.probe, web.health.path) == (8000, Probe.HTTP, "/healthz")
    testing, production = spec.environments
    assert (testing.name, production.name, production.promote_from) == ("testing", "production", "testing")
    assert "generate-hashes" not in text


@pytest.mark.parametrize("name", ["requirements.txt", "requirements.in", "pyproject.toml"])
def test_dependencies_without_hashes_get_a_hint(name: str) -> None:
    content = b'[project]\ndependencies = ["flask"]\n' if name == "pyproject.toml" else b"flask\n"
    text = detect({"main.py": b"", name: content}, "shop")
    assert parse(text).recipe.python == ""
    assert f"pip-compile --generate-hashes -o requirements.lock {name}" in text
    assert f"uv pip compile --generate-hashes -o requirements.lock {name}" in text
    uncommented = text.replace('# python = "requirements.lock"', 'python = "requirements.lock"')
    assert parse(uncommented).recipe.python == "requirements.lock"


@pytest.mark.parametrize("lock", ["uv.lock", "pylock.toml", "pylock.prod.toml"])
def test_the_locks_of_python_tools_are_used_as_they_are(lock: str) -> None:
    text = detect({"main.py": b"", lock: b"version = 1", "requirements.txt": HASHED}, "shop")
    assert parse(text).recipe.python == lock
    assert "Make one" not in text


@pytest.mark.parametrize("lock", ["poetry.lock", "pdm.lock", "Pipfile.lock"])
def test_a_lock_that_stelae_does_not_read_gets_a_hint(lock: str) -> None:
    text = detect({"main.py": b"", lock: b"version = 1"}, "shop")
    assert f"Make one from {lock}" in text
    assert parse(text).recipe.python == ""


def test_a_hashed_requirements_file_of_any_usual_name() -> None:
    text = detect({"main.py": b"", "requirements/prod.txt": HASHED, "requirements-dev.txt": b"pytest"}, "shop")
    assert parse(text).recipe.python == "requirements/prod.txt"


def test_a_procfile() -> None:
    procfile = (
        b"# comment\nweb: gunicorn shop.wsgi --bind :$PORT\nworker: python -m shop 'a b'\nrelease: migrate\nbad\n"
    )
    spec = parse(detect({"Procfile": procfile, "shop/wsgi.py": b""}, "shop"))
    web, worker = spec.processes
    assert web.command == ("sh", "-c", "exec gunicorn shop.wsgi --bind :$PORT")
    assert (web.port, worker.port) == (8000, None)
    assert worker.command == ("python", "-m", "shop", "a b")


def test_django_with_and_without_gunicorn() -> None:
    files = {"manage.py": b"", "shop/wsgi.py": b"", "requirements.txt": b"django\ngunicorn\n"}
    assert parse(detect(files, "x")).processes[0].command[-1] == "shop.wsgi"
    assert "runserver" in parse(detect({**files, "requirements.txt": b"django\n"}, "x")).processes[0].command


def test_asgi_applications() -> None:
    source = b"from fastapi import FastAPI\napi = FastAPI()\n"
    command = parse(detect({"main.py": source}, "x")).processes[0].command
    assert command == ("python3", "-m", "uvicorn", "main:api", "--host", "0.0.0.0", "--port", "8000")


def test_a_package_with_a_main() -> None:
    (process,) = parse(detect({"shop/__main__.py": b"print()", "shop/__init__.py": b""}, "x")).processes
    assert (process.name, process.command, process.port) == ("main", ("python3", "-m", "shop"), None)
    (process,) = parse(detect({"src/shop/__main__.py": b"import http.server"}, "x")).processes
    assert (process.name, process.port) == ("web", 8000)
    assert process.command == ("env", "PYTHONPATH=src", "python3", "-m", "shop")


def test_a_library_gets_a_place_to_say_what_starts() -> None:
    text = detect({"pyproject.toml": b"", "shop/__init__.py": b""}, "x")
    assert "say here what starts yours" in text
    parse(text)


@pytest.mark.parametrize(
    ("wanted", "suite"), [(">=3.9", "bookworm"), (">=3.12,<4", "trixie"), (">=3.99", "trixie"), ("", "bookworm")]
)
def test_the_base_has_the_python_that_is_wanted(wanted: str, suite: str) -> None:
    files = {"main.py": b"", "pyproject.toml": f'[project]\nrequires-python = "{wanted}"\n'.encode()}
    text = detect(files, "x")
    assert parse(text).recipe.base == f"debian:{suite}"
    assert ("asks for Python 3.99" in text) == ("99" in wanted)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Shop", "shop"), ("9 lives", "lives"), ("--", "app"), ("日本", "app"), ("a" * 50, "a" * 31)],
)
def test_names(name: str, expected: str) -> None:
    assert parse(detect({"main.py": b""}, name)).app == expected


@pytest.mark.parametrize("files", [{"main.go": b""}, {}])
def test_other_repositories_are_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(InvalidInput, match="no Python program, no Node program and no Dockerfile found") as caught:
        detect(files, "x")
    assert "by hand" in caught.value.hint


EXPRESS = {
    "name": "@acme/Front_End", "main": "lib/main.js", "scripts": {"start": "node server.js --fast"},
    "dependencies": {"express": "^4"}, "engines": {"node": ">=16"},
}  # fmt: skip


def node(changes: dict[str, Any], files: dict[str, bytes] | None = None) -> dict[str, bytes]:
    return {"package.json": json.dumps({**EXPRESS, **changes}).encode(), **(files or {})}


def test_a_node_application_with_a_lock() -> None:
    server = b"const port = process.env.PORT || 8080\napp.get('/health', f)\napp.listen(port)\n"
    spec = parse(detect(node({}, {"package-lock.json": b"{}", "server.js": server}), "folder"))
    assert spec.app == "front-end"
    assert spec.recipe.base == "debian:bookworm"
    assert spec.recipe.packages == ("nodejs",)
    assert spec.recipe.node == "package-lock.json"
    (web,) = spec.processes
    assert (web.name, web.command) == ("web", ("node", "server.js", "--fast"))
    assert (web.port, web.health.path) == (8080, "/health")


def test_a_node_application_without_a_lock_gets_a_hint() -> None:
    text = detect(node({"scripts": {"build": "vite build"}, "engines": {"node": "22"}}), "x")
    assert "npm install --package-lock-only" in text
    assert "image.stage" not in text
    assert "asks for Node 22" in text
    spec = parse(text)
    assert spec.recipe.base == "debian:trixie"
    assert spec.processes[0].command == ("node", "lib/main.js")
    assert spec.processes[0].port == 3000
    assert parse(text.replace('# node = "p', 'node = "p')).recipe.node == "package-lock.json"


@pytest.mark.parametrize(
    ("line", "made"), [("tsc -p .", "dist"), ("next build", ".next"), ("npm run all", ""), ("a \u0000", ""), ("", "")]
)
def test_a_node_application_that_is_built(line: str, made: str) -> None:
    files = node({"scripts": {"start": "node dist/x.js", "build": line}}, {"npm-shrinkwrap.json": b"{}"})
    recipe = parse(detect(files, "x")).recipe
    if not made:
        assert recipe.stages == ()
        return
    (stage,) = recipe.stages
    assert recipe.copy == (Copy(stage="build", path=f"/app/{made}", to=f"/app/{made}"),)
    assert (stage.node, stage.run) == ("npm-shrinkwrap.json", (f"PATH=/app/node_modules/.bin:$PATH; {line}",))


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("NODE_ENV=production PORT=1 node .", ("env", "NODE_ENV=production", "PORT=1", "node", ".")),
        ("next start", ("/app/node_modules/.bin/next", "start")),
        ("./run.sh 'a b'", ("./run.sh", "a b")),
        (
            "A=1 tsc && node x.js",
            ("env", "A=1", "sh", "-c", "PATH=/app/node_modules/.bin:$PATH; tsc && node x.js"),
        ),
    ],
)
def test_the_start_script_of_a_node_application(line: str, command: tuple[str, ...]) -> None:
    assert parse(detect(node({"scripts": {"start": line}}), "x")).processes[0].command == command


def test_a_node_program_that_does_not_serve() -> None:
    files = node({"scripts": {}, "main": 7, "dependencies": []}, {"index.js": b"console.log(1)", "tools/a.py": b""})
    (main,) = parse(detect(files, "x")).processes
    assert (main.name, main.command, main.port) == ("main", ("node", "index.js"), None)
    assert "say here what starts yours" in detect({"package.json": b"[1"}, "x")


DOCKERFILE = b"""FROM golang:1.22 AS build
EXPOSE 1
CMD ["wrong"]
FROM scratch
EXPOSE 8443/tcp 9000
ENTRYPOINT ["/serve", \\
  "--verbose"]
CMD ["--port", "8443"]
"""


def test_what_a_dockerfile_says_of_its_process() -> None:
    text = detect({"deploy/Dockerfile": b"", "Dockerfile": DOCKERFILE}, "Shop")
    assert parse(text).recipe.dockerfile == "Dockerfile"
    document = tomllib.loads(text)
    assert document["image"] == {"dockerfile": "Dockerfile"}
    web = document["process"]["web"]
    assert (web["command"], web["port"]) == (["/serve", "--verbose", "--port", "8443"], 8443)
    document = tomllib.loads(detect({"Containerfile": b"FROM x\nCMD serve it\n"}, "Shop"))
    assert document["process"]["main"]["command"] == ["sh", "-c", "exec serve it"]
    assert "say here" in detect({"Dockerfile": b'CMD ["a\x00b"'}, "Shop")


def test_a_python_repository_with_a_dockerfile_is_python() -> None:
    parse(detect({"Dockerfile": b"", "package.json": b"", "main.py": b""}, "x"))


NAMES = st.one_of(
    st.sampled_from(["pyproject.toml", "requirements.txt", "requirements.lock", "requirements/a.txt", "Procfile",
                     "main.py", "app.py", "manage.py", "a/wsgi.py", "src/a/__main__.py", "uv.lock", "Pipfile",
                     "setup.py", "package.json", "package-lock.json", "server.js", "Dockerfile", "pylock.toml"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10).map(lambda text: text + ".py"),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10).map(lambda text: f"requirements{text}.txt"),
)  # fmt: skip
LINES = st.sampled_from(
    [b"web: x", b"web: $PORT", b"9: 'a", b"w\x00: b", b"web: \x7f\"\\", b"Web: y", b"--hash=sha256:", b"[project]",
     b'name = "\\u0000"', b"name = 1", b'requires-python = ">=3.999"', b"dependencies = 1", b"x = Flask(",
     b"'/healthz'", b"\xff", b"flask", b'{"scripts": {"start": "A=$x \\u0000"}}', b'{"main": "\\u0085"}',
     b'{"name": [], "engines": 1, "scripts": {"start": "\'"}, "dependencies": 7}', b"app.listen(99999)", b"port = 80"]
)  # fmt: skip
CONTENTS = st.one_of(st.binary(max_size=60), st.lists(LINES, max_size=5).map(b"\n".join))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, CONTENTS, max_size=6), st.text(max_size=10))
def test_whatever_the_files_hold_the_text_is_right(files: dict[str, bytes], name: str) -> None:
    try:
        text = detect(files, name)
    except InvalidInput:
        assert not any(path.endswith(".py") or path == "package.json" for path in files)
        return
    spec = parse(text)
    assert spec.processes
    assert re.search(r"^\[env\.production\]$", text, re.MULTILINE)
