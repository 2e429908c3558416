"""What ``[env.NAME]`` says of drift."""

from __future__ import annotations

from typing import Any

import pytest

from stelae.domain.drift import Answer, DriftPolicy
from stelae.domain.environment import Environment
from stelae.domain.errors import InvalidInput
from stelae.spec.document import parse
from stelae.spec.render import Change, changes, environment_document
from tests.unit.spec.samples import document, toml


def production(**keys: Any) -> Environment:
    spec = parse(toml(document({f"env.production.{key}": value for key, value in keys.items()})))
    return next(env for env in spec.environments if env.name == "production")


def test_what_drifted_is_replaced_unless_something_else_is_said() -> None:
    assert production().drift == DriftPolicy(answer=Answer.REPLACE, storm=30)
    assert production(drift="report", drift_storm="5%").drift == DriftPolicy(answer=Answer.REPORT, storm=5)


def test_a_rendered_environment_reads_back_the_same_and_changes_are_told() -> None:
    env = production(drift="report", drift_storm="50%")
    again = {key: environment_document(env)[key] for key in ("drift", "drift_storm")}
    assert production(**again) == env
    assert changes(production(), env) == (
        Change(path="drift", old="replace", new="report"),
        Change(path="drift_storm", old="30%", new="50%"),
    )


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"drift": "repair"}, 'drift: expected "replace" or "report"'),
        ({"drift": True}, 'drift: expected "replace" or "report"'),
        ({"drift_storm": "0%"}, 'drift_storm: expected a share from "1%" to "100%"'),
        ({"drift_storm": 30}, 'drift_storm: expected a share from "1%" to "100%"'),
        ({"drift_strom": "30%"}, 'drift_strom: unknown key. Did you mean "drift_storm"?'),
    ],
)
def test_what_cannot_be_meant_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        production(**keys)
    assert words in "\n".join((str(caught.value), *caught.value.details))
