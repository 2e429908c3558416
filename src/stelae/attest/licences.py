"""Licences: what the databases of packages say, as SPDX expressions where that is certain, else as it is said."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FAMILIES = ("GPL", "LGPL", "AGPL", "GFDL")
_SPDX = {
    "apache-2": "Apache-2.0", "apache-2.0": "Apache-2.0", "artistic": "Artistic-1.0-Perl",
    "artistic-2": "Artistic-2.0", "artistic-2.0": "Artistic-2.0", "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause", "bsd-4-clause": "BSD-4-Clause", "bsl-1": "BSL-1.0", "bsl-1.0": "BSL-1.0",
    "cc0": "CC0-1.0", "cc0-1.0": "CC0-1.0", "isc": "ISC", "mit": "MIT", "expat": "MIT", "mpl-1.1": "MPL-1.1",
    "mpl-2.0": "MPL-2.0", "psf-2": "PSF-2.0", "psf-2.0": "PSF-2.0", "python-2.0": "Python-2.0",
    "unlicense": "Unlicense", "zlib": "Zlib",
}  # fmt: skip
_GNU = re.compile(rf"({'|'.join(_FAMILIES)})-(\d)(\.\d)?(\.\d)?(\+)?", re.IGNORECASE)
_FIELD = re.compile(r"^License:[ \t]*(\S[^\n]*)$", re.MULTILINE | re.IGNORECASE)
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z][A-Za-z0-9.+-]*)")
_OSI = "License :: OSI Approved :: "
_LONGEST = 120
"""A longer text is a licence's text, not its name."""


def spdx(name: str) -> str:
    """Return the SPDX identifier that Debian's short *name* stands for, or *name* as it is."""
    found = _SPDX.get(name.lower())
    if found:
        return found
    gnu = _GNU.fullmatch(name)
    if gnu is None:
        return name
    family, major, minor, _, later = gnu.groups()
    return f"{family.upper()}-{major}{minor or '.0'}-{'or-later' if later else 'only'}"


def of_copyright(text: str) -> tuple[str, ...]:
    """Return the licences that a Debian ``copyright`` file names: by its fields (DEP-5), else by the common licences
    that it points to."""
    names: set[str] = set()
    if text.lstrip().startswith("Format:") or "\nFormat:" in text[:500]:
        for line in _FIELD.findall(text):
            words = re.split(r"(?:^|[\s,|]+)(?:and/or|and|or)\s+|,\s*|\s*\|\s*", line.strip())
            names.update(word.strip("() ") for word in words)
    else:
        names.update(match.rstrip(".-") for match in _COMMON.findall(text))
    return tuple(sorted({spdx(name) for name in names if name and len(name) <= _LONGEST}))


def of_python(expression: str, licence: str, classifiers: Sequence[str]) -> tuple[str, ...]:
    """Return the licences of a Python distribution: its SPDX expression, else its classifiers, else its free text."""
    if expression:
        return (expression,)
    found = {item.removeprefix(_OSI) for item in classifiers if item.startswith(_OSI)}
    if found:
        return tuple(sorted(found))
    short = licence.strip()
    return (spdx(short),) if short and "\n" not in short and len(short) <= _LONGEST else ()


def of_npm(value: object) -> tuple[str, ...]:
    """Return the licences in a ``package.json``: its field ``license`` in each form that npm has known."""
    if isinstance(value, list):
        return tuple(sorted({name for item in value for name in of_npm(item)}))
    if isinstance(value, dict):
        value = value.get("type")
    return (value,) if isinstance(value, str) and 0 < len(value) <= _LONGEST else ()


_TERM = r"[A-Za-z0-9][A-Za-z0-9.+-]*"
_EXPRESSION = re.compile(rf"\(*{_TERM}\)*(?: (?:AND|OR|WITH) \(*{_TERM}\)*)*")


def is_expression(name: str) -> bool:
    """Say whether *name* has the form of an SPDX expression."""
    return bool(_EXPRESSION.fullmatch(name)) and name.count("(") == name.count(")")
