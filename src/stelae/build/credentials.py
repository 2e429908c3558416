"""Credentials for private package indexes: files that a download reads, and that nothing else ever sees.

They are named as the tools name them: ``pip.conf`` and ``netrc`` for pip, ``npmrc`` for npm's registries. What they
hold is in no cache key, no fact, no layer and no message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from stelae.domain.errors import InvalidInput

PIP_CONF = "pip.conf"
NETRC = "netrc"
NPMRC = "npmrc"
NAMES = (PIP_CONF, NETRC, NPMRC)

_USER_INFO = re.compile(r"(?<=://)[^/\s@]*@")


def check(credentials: Mapping[str, Path]) -> None:
    """Raise InvalidInput for a name that no download knows, or a file that is not there."""
    for name, path in credentials.items():
        if name not in NAMES:
            raise InvalidInput(f"no download reads credentials of the name {name}", hint=f"known: {', '.join(NAMES)}")
        if not path.is_file():
            raise InvalidInput(f"the credentials {name} are not a file that can be read")


def pip_environment(credentials: Mapping[str, Path]) -> dict[str, str]:
    """Return the environment that makes pip read them. A ``pip.conf`` takes the place of the user's own one."""
    found = dict(os.environ)
    if PIP_CONF in credentials:
        found["PIP_CONFIG_FILE"] = str(credentials[PIP_CONF])
    if NETRC in credentials:
        found["NETRC"] = str(credentials[NETRC])
    return found


def masked(text: str) -> str:
    """Return *text* without the names and passwords that its addresses hold."""
    return _USER_INFO.sub("***@", text)
