"""``secrets`` and ``secret_env`` of an environment: their form, and what their names may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stelae.domain.environment import Environment
from stelae.spec import forms
from stelae.spec.forms import Schema
from stelae.spec.places import Table, inside, table_at
from stelae.spec.problem import Path, Problem

MOST = 100

WORDS: Schema = {
    "secret_name": forms.text(
        "a name of at most 64 letters, digits, dot, - and _, a letter or _ first", r"^[A-Za-z_][A-Za-z0-9._-]{0,63}$"
    ),
}

KEYS: Schema = {
    "secrets": forms.listed(
        f"a list of at most {MOST} names",
        forms.ref("secret_name"),
        maxItems=MOST,
        description="What every instance reads at /run/secrets/NAME; stelae secret set gives the values.",
    ),
    "secret_env": forms.listed(
        f"a list of at most {MOST} names",
        forms.ref("setting_name"),
        maxItems=MOST,
        description="Those of its secrets that are environment variables too.",
    ),
}


def read(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an environment that *table* says."""
    return {key: tuple(table.get(key, ())) for key in KEYS}


def rendered(environment: Environment) -> dict[str, list[str]]:
    """Return what *environment* has of them, as its table would say it."""
    return {"secrets": list(environment.secrets), "secret_env": list(environment.secret_env)}


def check(_whole: Table, sound: Table) -> Iterator[Problem]:
    """Yield what is wrong with the secrets of *sound*'s environments."""
    for name in table_at(sound, "env"):
        here: Path = ("env", name)
        environment = table_at(sound, "env", name)
        secrets = environment.get("secrets", [])
        for key in ("secrets", "secret_env"):
            names = environment.get(key, [])
            for twice in sorted({item for item in names if names.count(item) > 1}):
                yield Problem(path=(*here, key), text=f'"{twice}" is in it twice')
        for variable in environment.get("secret_env", []):
            if variable not in secrets:
                text = f'"{variable}" is none of the secrets of this environment; list it in secrets too'
                yield Problem(path=(*here, "secret_env"), text=text)
            elif variable in environment.get("settings", {}):
                text = f'"{variable}" is a setting of this environment, and cannot be a secret too'
                yield Problem(path=(*here, "secret_env"), text=text)
        if secrets:
            yield from _hidden(name, sound)


def _hidden(name: str, sound: Table) -> Iterator[Problem]:
    """A memory file system over the secrets would hide them."""
    for process in table_at(sound, "env", name, "processes"):
        for path in table_at(sound, "process", process).get("tmpfs", {}):
            if inside(path, "/run/secrets"):
                text = f"is where the secrets of env.{name} are; choose another folder"
                yield Problem(path=("process", process, "tmpfs", path), text=text)
