"""The values of a release's secrets, and those of them that are environment variables."""

from __future__ import annotations

from collections.abc import Mapping

from stelae.domain.environment import environment_id
from stelae.domain.errors import Failed
from stelae.domain.release import Release
from stelae.platforms.port import SecretSource

FOLDER = "/run/secrets"
"""Where an instance finds its secrets."""


def values_of(source: SecretSource | None, release: Release) -> dict[str, bytes]:
    """Return the values that *release* names; raises Failed for one that cannot be read, or cannot be an environment
    variable where it should be one."""
    if not release.secrets:
        return {}
    if source is None:
        raise Failed("this platform was given no store of secrets")
    environment = environment_id(release.app, release.environment)
    values = {name: source.read(environment, name, version) for name, version in release.secrets.items()}
    variables_of(release, values)
    return values


def variables_of(release: Release, values: Mapping[str, bytes]) -> dict[str, str]:
    """Return those of *values* that are environment variables; raises Failed for one that is no text."""
    found = {}
    for name in release.secret_env:
        try:
            found[name] = values[name].decode("utf-8")
        except UnicodeDecodeError:
            found[name] = "\0"
        if "\0" in found[name]:
            raise Failed(
                f"secret {name} version {release.secrets[name]} cannot be an environment variable: it is no text",
                hint=f"let the app read {FOLDER}/{name}, and take it out of secret_env",
            ) from None
    return found
