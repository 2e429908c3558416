"""Where npm packages are downloaded from, as npm itself is told on this machine.

The later of these wins: the files of all users, the user's ``.npmrc``, the environment (``npm_config_registry``), and
an ``npmrc`` given as credentials. A ``.npmrc`` in the app's commit is not read: where a machine downloads from, and
with which password, is not for a commit to say. Source: npm's documentation, "npmrc" and "config".
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from stelae.build.credentials import NPMRC
from stelae.build.http_get import Getter
from stelae.domain.errors import InvalidInput
from stelae.system.command import run

_OF_ALL = ("/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc")
_PREFIX = "npm_config_"
_VARIABLE = re.compile(r"\$\{([^}]+)\}")


class NpmConfig:
    """What npm's configuration says of registries; *values* are its keys as in an npmrc."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def registry(self, name: str) -> str:
        """Return the address of the registry of package *name*, with a last slash; "" when none is configured."""
        scope = name.partition("/")[0] if name.startswith("@") else ""
        found = (scope and self._values.get(f"{scope}:registry")) or self._values.get("registry", "")
        return found.rstrip("/") + "/" if found else ""

    def tarball(self, name: str, version: str) -> str:
        """Return where the registry of *name* has this version; "" when none is configured."""
        registry = self.registry(name)
        base = quote(name.rpartition("/")[2])
        return f"{registry}{quote(name, safe='@/')}/-/{base}-{quote(version)}.tgz" if registry else ""

    def headers(self, url: str) -> dict[str, str]:
        """Return the headers that authenticate at *url*: those of the longest address that it begins with."""
        parts = urlsplit(url)
        place = f"//{parts.netloc.rpartition('@')[2]}{parts.path}"
        while place.count("/") > 2:
            place = place[: place.rstrip("/").rfind("/") + 1]
            header = self._authorization(place)
            if header:
                return {"Authorization": header}
        return {}

    def getter(self) -> Getter:
        """Return what downloads with this configuration."""
        cafile = self._values.get("cafile")
        names = {"https": self._values.get("https-proxy", ""), "http": self._values.get("proxy", "")}
        proxies = {scheme: url for scheme, url in names.items() if url not in ("", "null")}
        return Getter(self.headers, cafile=Path(cafile) if cafile else None, proxies=proxies)

    def _authorization(self, place: str) -> str:
        token = self._values.get(f"{place}:_authToken")
        if token:
            return f"Bearer {token}"
        pair = self._values.get(f"{place}:_auth")
        user, password = self._values.get(f"{place}:username"), self._values.get(f"{place}:_password")
        if not pair and user and password:
            try:
                plain = base64.b64decode(password, validate=True)
            except binascii.Error as error:
                raise InvalidInput(f"the _password of {place} in npm's configuration is not base64") from error
            pair = base64.b64encode(user.encode() + b":" + plain).decode()
        return f"Basic {pair}" if pair else ""


def load(credentials: Mapping[str, Path]) -> NpmConfig:
    """Return this machine's configuration; raises InvalidInput for credentials that cannot be read."""
    environment = {
        key[len(_PREFIX) :].lower() if "//" not in key else key[len(_PREFIX) :]: value
        for key, value in os.environ.items()
        if key.lower().startswith(_PREFIX)
    }
    values: dict[str, str] = {}
    own = environment.get("userconfig") or str(Path.home() / ".npmrc")
    for path in (*_OF_ALL, environment.get("globalconfig", ""), own):
        if path and Path(path).is_file():
            values |= parse(_read(Path(path)))
    values |= environment
    if NPMRC in credentials:
        values |= parse(_read(credentials[NPMRC]))
    if not values.get("registry"):
        values["registry"] = _default()
    return NpmConfig(values)


def parse(text: str) -> dict[str, str]:
    """Return the keys of an npmrc: ``key = value`` lines, comments after ``;`` or ``#``, ``${NAME}`` of the
    environment."""
    values = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or key.startswith((";", "#", "[")):
            continue
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        values[key.strip()] = _VARIABLE.sub(lambda found: os.environ.get(found[1], found[0]), value)
    return values


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("npm's configuration cannot be read", where=path.name) from error


def _default() -> str:
    """Return the registry that npm takes when nothing is configured; "" without npm."""
    npm = shutil.which("npm")
    if npm is None:
        return ""
    output = run([npm, "config", "get", "registry"], cwd=Path("/"), env=dict(os.environ), timeout=60, check=False)
    found = output.stdout.decode("utf-8", "replace").strip()
    return found if output.status == 0 and found.startswith("http") else ""
