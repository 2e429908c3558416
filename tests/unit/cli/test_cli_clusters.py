"""``stelae render`` and ``stelae kubernetes``: YAML that nobody can take for anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from tests.unit.cli.test_cli_output import asked, document, plain

from stelae.cli import manifest
from stelae.testing.answer_parts import IMAGE
from stelae.testing.service import FakeService

Stelae = Callable[..., Any]


def test_render_prints_yaml_and_names_the_secret(stelae: Stelae, service: FakeService, folder: Path) -> None:
    assert plain(stelae("render", "production")) == snapshot("""\
# guestbook/production: release r-7k2m9q, image 9b1d02c4aa37
# It needs the Secret guestbook-production-secrets-3k9x2m7q1a, with token (version 2).
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: a
data:
  A: "yes"
""")
    request = {"environment": "guestbook/production", "image": "", "release": "", "commit": "", "path": ""}
    assert asked(service, "render") == (request,)
    assert document(stelae("render", "production", "--json")) == service.answers["render"]
    stelae("render", "production", "--image", IMAGE)
    assert asked(service, "render") == ({**request, "image": IMAGE},)


def test_render_of_a_commit(stelae: Stelae, service: FakeService, folder: Path) -> None:
    assert stelae("render", "production", "--ref", "HEAD").code == 0
    (request,) = asked(service, "render")
    assert len(request["commit"]) == 40
    assert stelae("render", "production", "--ref", "HEAD", "--image", IMAGE).code == 2


def test_kubernetes_prints_what_an_administrator_applies(stelae: Stelae, service: FakeService) -> None:
    yaml_ = "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n"
    assert plain(stelae("kubernetes", "policy", "production")) == yaml_
    assert asked(service, "cluster_setup") == ("guestbook/production", "policy", "")
    assert plain(stelae("kubernetes", "rbac", "guestbook/production", "--user", "ada")) == yaml_
    assert asked(service, "cluster_setup") == ("guestbook/production", "rbac", "ada")
    assert document(stelae("kubernetes", "rbac", "production", "--json")) == service.answers["cluster_setup"]


TRICKY = [
    "y", "No", "ON", "~", "null", "0o17", "017", "1_000", "1e3", "12:30:45", ".inf", "", " a", "a: b", "# a", "-",
    "2026-11-23", "a\nb\n", "\u2028", "\x1b[2J", "\x85", "ä", "=", "<<", "!a", "&a", "*a", "@a", "%a", "{a}",
    "\U0001f600",
]  # fmt: skip


@pytest.mark.parametrize("text", TRICKY)
def test_text_stays_text(text: str) -> None:
    (written,) = (line for line in manifest.lines([{"a": text}]) if line != "---")
    assert written.isascii()
    assert written.isprintable()
    assert yaml.safe_load(written) == {"a": text}
    assert written.removeprefix("a: ").startswith('"')
    _, key, *_ = manifest.lines([{text: 1}])
    assert key.removeprefix("? ").startswith('"')


@given(
    st.recursive(
        st.text() | st.integers() | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_is_written_is_read_as_it_was(value: object) -> None:
    shared = {"same": value}
    text = "\n".join(manifest.lines([{"a": shared, "b": shared}, {"c": value}], ["a head"]))
    assert list(yaml.safe_load_all(text)) == [{"a": shared, "b": shared}, {"c": value}]
    assert "&id" not in text
