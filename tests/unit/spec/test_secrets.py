"""``secrets`` and ``secret_env`` of an environment."""

from __future__ import annotations

from typing import Any

import pytest

from stelae.domain.environment import Environment
from stelae.domain.errors import InvalidInput
from stelae.spec.document import parse
from stelae.spec.render import Change, changes, environment_document
from tests.unit.spec.samples import document, toml

PLACE = "env.production"


def production(**keys: Any) -> Environment:
    spec = parse(toml(document({f"{PLACE}.{key}": value for key, value in keys.items()})))
    return next(env for env in spec.environments if env.name == "production")


def test_names_are_kept_in_their_order() -> None:
    env = production(secrets=["TLS_KEY", "db.password"], secret_env=["TLS_KEY"])
    assert (env.secrets, env.secret_env) == (("TLS_KEY", "db.password"), ("TLS_KEY",))
    assert (production().secrets, production().secret_env) == ((), ())


def test_it_reads_back_and_differences_are_told() -> None:
    env = production(secrets=["A", "B"], secret_env=["A"])
    shown = environment_document(env)
    assert production(secrets=shown["secrets"], secret_env=shown["secret_env"]) == env
    assert changes(production(), env) == (
        Change(path="secrets", old="", new="A, B"),
        Change(path="secret_env", old="", new="A"),
    )


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"secrets": ["../etc/passwd"]}, "expected a name of at most 64"),
        ({"secrets": ["a/b"]}, "expected a name of at most 64"),
        ({"secrets": [".hidden"]}, "expected a name of at most 64"),
        ({"secrets": ["A" * 65]}, "expected a name of at most 64"),
        ({"secrets": [""]}, "expected a name of at most 64"),
        ({"secrets": ["A\n"]}, "control character"),
        ({"secrets": ["A", "A"]}, '"A" is in it twice'),
        ({"secrets": [f"A{number}" for number in range(101)]}, "at most 100"),
        ({"secrets": {"A": "a value"}}, "expected a list of at most 100 names, got a table"),
        ({"secret_env": ["A"]}, "none of the secrets"),
        ({"secrets": ["A"], "secret_env": ["A", "A"]}, "twice"),
        ({"secrets": ["a.b"], "secret_env": ["a.b"]}, "expected a name of A to Z"),
        ({"secrets": ["PORT"], "secret_env": ["PORT"]}, "which Stelae sets itself"),
        ({"secrets": ["A"], "secret_env": ["A"], "settings": {"A": "x"}}, "is a setting of this environment"),
    ],
)
def test_what_is_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput) as told:
        production(**keys)
    assert says in "\n".join((str(told.value), *told.value.details))


@pytest.mark.parametrize("path", ["/run/secrets", "/run/secrets/mine"])
def test_a_memory_file_system_must_not_hide_them(path: str) -> None:
    hiding = {"process.web.tmpfs": {path: "1MiB"}}
    parse(toml(document(hiding)))
    with pytest.raises(InvalidInput, match=r"where the secrets of env\.production are"):
        parse(toml(document({**hiding, f"{PLACE}.secrets": ["A"]})))
    parse(toml(document({"process.web.tmpfs": {"/run": "1MiB"}, f"{PLACE}.secrets": ["A"]})))
