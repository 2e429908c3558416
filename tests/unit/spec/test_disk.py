"""``[disk]``: that an image is made into disks too, and of what."""

import pytest

from stelae.domain.errors import InvalidInput
from stelae.spec.document import parse
from tests.unit.spec.samples import document, toml


def test_an_app_is_made_into_disks_only_where_it_says_so() -> None:
    assert parse(toml(document())).disk == ""
    assert parse(toml(document({"disk": {"base": "debian:trixie"}}))).disk == "debian:trixie"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({}, "disk.base: missing; expected"),
        ({"base": "scratch"}, 'disk.base: expected "debian:SUITE"'),
        ({"base": "oci:x@sha256:" + "0" * 64}, 'disk.base: expected "debian:SUITE"'),
        ({"base": "debian:x; rm"}, 'disk.base: expected "debian:SUITE"'),
        ({"base": 12}, 'disk.base: expected "debian:SUITE"'),
        ({"base": "debian:trixie", "bse": 1}, 'disk.bse: unknown key. Did you mean "base"?'),
        ("yes", "disk: expected a table with base"),
    ],
)
def test_what_is_wrong_says_where_and_what_was_expected(table: object, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(toml(document({"disk": table})))
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2


def test_no_stage_has_the_name_that_the_lock_has_for_the_disk() -> None:
    stages = {
        "image.stage.disk": {"base": "debian:bookworm"},
        "image.copy": [{"from": "disk", "path": "/x"}],
    }
    assert parse(toml(document(stages))).recipe.stages[0].name == "disk"
    with pytest.raises(InvalidInput, match=r"image\.stage\.disk: \[disk\] has this name in stelae\.lock"):
        parse(toml(document({**stages, "disk": {"base": "debian:bookworm"}})))
