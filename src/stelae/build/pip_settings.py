"""What pip's configuration says about where packages come from, as far as it is plain: indexes and pages of links.

Whatever else it says (a proxy, a client's certificate, constraints, folders of the machine) is pip's own business.
Source: pip's documentation, "Configuration": the files, their order, and the variables ``PIP_*``.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_SECTIONS = ("global", "download")
# What is about how pip works or what it prints, and never about which file is taken, or from where.
_NO_MATTER = frozenset(
    {"disable-pip-version-check", "timeout", "default-timeout", "retries", "quiet", "verbose", "no-color", "no-input",
     "progress-bar", "cache-dir", "no-cache-dir", "root-user-action", "break-system-packages", "config-file", "log"}
)  # fmt: skip
_PLACES = frozenset({"index-url", "extra-index-url", "find-links", "no-index", "cert"})
_TRUE, _FALSE = ("y", "yes", "t", "true", "on", "1"), ("n", "no", "f", "false", "off", "0")
_SYSTEM = Path("/etc")
_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where wheels are looked for: ``indexes`` (PEP 503) and ``pages`` of links; ``cert`` is a bundle of
    certificates, None for the system's."""

    indexes: tuple[str, ...]
    pages: tuple[str, ...]
    cert: Path | None = None


def places(environment: Mapping[str, str], prefix: str = sys.prefix) -> Places | None:
    """Return what is configured by the files and by *environment*, for the Python at *prefix*; None when pip alone
    can tell what it means."""
    found = _settings(environment, prefix)
    if found is None or not found.keys() <= _NO_MATTER | _PLACES or _has_netrc(environment):
        return None
    no_index = found.get("no-index", "no").lower()
    if no_index not in (*_TRUE, *_FALSE):
        return None
    indexes = (found.get("index-url") or default_index(), *found.get("extra-index-url", "").split())
    pages = tuple(found.get("find-links", "").split())
    indexes = () if no_index in _TRUE else indexes
    if not all(map(_plain, (*indexes, *pages))):
        return None
    cert = found.get("cert")
    return Places(indexes=indexes, pages=pages, cert=Path(cert) if cert else None)


def default_index() -> str:
    """Return where pip looks when nothing is configured, "" when this pip does not tell."""
    try:
        from pip._internal.models.index import PyPI
    except ImportError:
        return ""
    return str(PyPI.simple_url)


def _settings(environment: Mapping[str, str], prefix: str) -> dict[str, str] | None:
    """Return the settings by name, the empty ones left out; None when a file cannot be read."""
    by_section: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for path in _files(environment, prefix):
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text())
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, configparser.Error):
            return None
        for section in _SECTIONS:
            if parser.has_section(section):
                by_section[section].update({_name(key): value for key, value in parser.items(section)})
    result: dict[str, str] = {}
    variables = {_name(key[4:]): value for key, value in environment.items() if key.startswith("PIP_")}
    for values in (*by_section.values(), variables):
        result.update({key: value.strip() for key, value in values.items() if value.strip()})
    return result


def _files(environment: Mapping[str, str], prefix: str) -> Iterator[Path]:
    given = environment.get("PIP_CONFIG_FILE")
    if given == os.devnull:
        return
    for folder in environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"):
        yield Path(folder, "pip", "pip.conf")
    yield _SYSTEM / "pip.conf"
    if not given or not Path(given).exists():
        home = Path(environment.get("HOME") or "/root")
        yield home / ".pip" / "pip.conf"
        yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf")
    yield Path(prefix, "pip.conf")
    if given:
        yield Path(given)


def _name(key: str) -> str:
    return key.lower().replace("_", "-").removeprefix("--")


def _plain(url: str) -> bool:
    """Say whether *url* needs no credentials, and is one that pip trusts: it wants TLS but of this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return "@" not in parts.netloc and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _HERE)
    )


def _has_netrc(environment: Mapping[str, str]) -> bool:
    """Say whether there is a file of credentials that pip would read."""
    home = Path(environment.get("HOME") or "/root")
    return "NETRC" in environment or any((home / name).exists() for name in (".netrc", "_netrc"))
