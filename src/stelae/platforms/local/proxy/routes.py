"""Routes as entries of HAProxy's maps: what is looked up for a request, and what it leads to.

The map of names holds plain words: a host and its backend (``b3``), a server and the token of its release
(``b3/s4``), and for an environment with routes their kinds (``b3/routes``), preview hosts (``b3/host/NAME``) and the
tokens of releases that keep their users (``b3/user/TOKEN``). The map of patterns holds regular expressions over all
headers of a request, because the names of headers and cookies are known at run time only, after a prefix that says
whose they are. A client chooses none of the prefixes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from stelae.domain.allocation import Route, RouteKind
from stelae.domain.errors import InvalidInput

COOKIE = "stelae-release"
"""The name of the cookie that keeps a user with a release."""

MOST_VALUE = 200
"""The longest value of a header or cookie that a route can have, in bytes."""

MOST_ROUTES = 50
"""The most routes of one environment."""

PATTERN_START = "(?s)^"
"""What every pattern begins with, and no name."""

LETTERS = {RouteKind.HOST: "h", RouteKind.HEADER: "e", RouteKind.COOKIE: "c", RouteKind.STICKY: "s"}
"""How the kinds of routes that an environment has are told to the rules of the frontend."""

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")  # RFC 9110, section 5.6.2: token
_VALUE = re.compile(r"[ -~\x80-\U0010ffff]*")
_COOKIE_VALUE = re.compile(r"[^\s\";,\\]*")  # RFC 6265, section 4.1.1


def check_routes(routes: Sequence[Route]) -> None:
    """Raise InvalidInput for a header or cookie that cannot be, or that must not get onto HAProxy's socket. The
    hosts of routes are checked with the other hosts."""
    if len(routes) > MOST_ROUTES:
        raise InvalidInput(f"{len(routes)} routes are more than the {MOST_ROUTES} that an environment can have")
    for route in routes:
        if not route.release:
            raise InvalidInput(f"the route by {route.kind} {route.name[:100]!r} leads to no release")
        if route.kind not in (RouteKind.HEADER, RouteKind.COOKIE):
            continue
        if not _NAME.fullmatch(route.name):
            raise InvalidInput(f"not the name of a {route.kind}: {route.name[:100]!r}")
        allowed = _VALUE if route.kind is RouteKind.HEADER else _COOKIE_VALUE
        trimmed = route.value.strip(" \t") == route.value
        if not trimmed or not allowed.fullmatch(route.value) or not _encodable(route.value):
            raise InvalidInput(f"not the value of a {route.kind}: {route.value[:100]!r}")
        if len(route.value.encode()) > MOST_VALUE:
            raise InvalidInput(f"the value of the {route.kind} {route.name} is longer than {MOST_VALUE} bytes")


def kinds(routes: Sequence[Route]) -> str:
    """Return the letters of the kinds that are among *routes*."""
    there = {route.kind for route in routes}
    return "".join(letter for kind, letter in LETTERS.items() if kind in there)


def pattern(backend: str, route: Route) -> str:
    """Return the regular expression of a header or cookie of a request to *backend*: over ``e/b3/`` or ``c/b3/`` and
    the lines ``name: value`` of the request, names in lower case, each with CR and LF (``req.hdrs``)."""
    value = _literal(route.value)
    start = rf"{PATTERN_START}{LETTERS[route.kind]}/{backend}/(?:.*\n)?"
    if route.kind is RouteKind.HEADER:
        rest = rf"\x20{value}\r\n" if value else ""
        return rf"{start}{_literal(route.name.lower())}:{rest}"
    rest = value or r"[^\r\n\x3b]*"
    return rf"{start}cookie:(?:[^\r\n]*\x3b)?[\x20\x09]*{_literal(route.name)}={rest}[\x20\x09]*[\r\x3b]"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _literal(text: str) -> str:
    """Return *text* for a regular expression, a map file and a command: nothing in it means anything to any."""
    return "".join(
        chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or byte == ord("-")) else f"\\x{byte:02x}"
        for byte in text.encode()
    )
