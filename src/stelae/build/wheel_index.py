"""Wheels straight from the indexes that pip is configured with: where these are plain, there is no need to start pip,
which takes longer than most downloads.

Only bytes with a digest that the lock names are taken, so it is the same file that pip would have taken. What is not
found here, for whatever reason, is left for pip, which also knows best how to say why. Sources: PEP 503, 592 and 691
(the simple API, in HTML and JSON), PEP 425 (tags), PEP 440.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from stelae.build.http_get import Getter, Missing
from stelae.build.pip_settings import Places
from stelae.build.python_target import Target
from stelae.build.requirements import Pinned
from stelae.build.wheel_names import parsed
from stelae.domain.errors import InvalidInput, StelaeError
from stelae.domain.units import GIB, MIB

AT_ONCE = 4
"""How many files are fetched at the same time."""

SECONDS = 15
"""How long an index may be silent before pip is asked, which is more patient."""

_LARGEST_PAGE = 32 * MIB
_LARGEST = 8 * GIB
_ACCEPT = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1, */*;q=0.01"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    url: str
    file: str
    digest: str
    python: str


def fetch(wanted: Sequence[Pinned], target: Target, work: Path, places: Places) -> dict[Pinned, Path]:
    """Return the wheels of those of *wanted* that are found in *places*, as files in the empty folder *work*."""
    getter = Getter(lambda _: {"Accept": _ACCEPT}, cafile=places.cert, tries=1, seconds=SECONDS)
    try:
        pages = [link for url in places.pages for link in _links(getter, url)]
        with ThreadPoolExecutor(max(1, min(AT_ONCE, len(wanted)))) as pool:
            one = _Fetch(getter, places, pages, target, work)
            paths = list(pool.map(one.fetched, wanted))
    except (StelaeError, OSError, ValueError):
        return {}
    finally:
        getter.close()
    return {pinned: path for pinned, path in zip(wanted, paths, strict=True) if path is not None}


class _Fetch:
    """Fetches one wheel after the other; *pages* are the links of all pages that are no index."""

    def __init__(self, getter: Getter, places: Places, pages: Sequence[_Link], target: Target, work: Path) -> None:
        self._getter, self._places, self._pages, self._target, self._work = getter, places, pages, target, work

    def fetched(self, pinned: Pinned) -> Path | None:
        """Return the file of *pinned*, None when it is better left to pip."""
        try:
            link = None if pinned.url else self._best(pinned)
            return None if link is None else self._download(link, pinned)
        except (StelaeError, OSError, ValueError):
            return None

    def _best(self, pinned: Pinned) -> _Link | None:
        links = list(self._pages)
        for index in self._places.indexes:
            try:
                links += _links(self._getter, f"{index.rstrip('/')}/{pinned.name}/")
            except Missing:
                continue  # of several indexes one may not know it
        order = {tag: number for number, tag in enumerate(self._target.tags)}
        found = []
        for link in links:
            try:
                name, version, build, tags = parsed(link.file)
                fits = name == pinned.name and version == Version(pinned.version) and self._runs(link.python)
            except (InvalidInput, InvalidVersion):
                continue
            rank = min((order[tag] for tag in tags if tag in order), default=None)
            if fits and rank is not None and (not link.digest or link.digest in pinned.hashes):
                # As pip has it: what is known to be wanted goes first, and of two builds the later one is meant.
                found.append((bool(link.digest), -rank, build or (), link.file, link))
        return max(found, key=lambda item: item[:4])[4] if found else None

    def _runs(self, python: str) -> bool:
        """Say whether the Python of the image is one of those that *python* (``requires-python``) allows."""
        try:
            return not python or SpecifierSet(python).contains(f"3.{self._target.minor}.0")
        except InvalidSpecifier:
            return True  # as pip has it

    def _download(self, link: _Link, pinned: Pinned) -> Path | None:
        path = self._work / link.file
        hasher = hashlib.sha256()
        try:
            with path.open("wb") as out:

                def write(data: bytes) -> None:
                    hasher.update(data)
                    out.write(data)

                self._getter.get(link.url, lambda: write, _LARGEST)
        finally:
            whole = hasher.hexdigest() in pinned.hashes
            if not whole:
                path.unlink(missing_ok=True)
        return path if whole else None


def _links(getter: Getter, url: str) -> list[_Link]:
    """Return the wheels that the page at *url* names; raises as ``Getter.get``, ValueError for what is no page."""
    page = bytearray()
    getter.get(url, lambda: page.extend, _LARGEST_PAGE)
    if page.lstrip()[:1] == b"{":
        try:
            return [found for item in json.loads(page)["files"] if (found := _of_json(url, item)) is not None]
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("no page of an index") from error
    reader = _Reader(url)
    reader.feed(page.decode("utf-8", "replace"))
    return reader.links


def _of_json(page: str, item: Mapping[str, object]) -> _Link | None:
    hashes = item.get("hashes")
    digest = hashes.get("sha256", "") if isinstance(hashes, dict) else ""
    return _link(urljoin(page, str(item["url"])), str(digest), str(item.get("requires-python") or ""))


class _Reader(HTMLParser):
    """Reads the links of a page."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._base = url
        self.links: list[_Link] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take one link, or the base of all that follow."""
        values = dict(attrs)
        href = values.get("href")
        if not href:
            return
        if tag == "base":
            self._base = urljoin(self._base, href)
        elif tag == "a":
            url, fragment = urldefrag(urljoin(self._base, href))
            kind, _, digest = fragment.partition("=")
            found = _link(url, digest if kind == "sha256" else "", values.get("data-requires-python") or "")
            if found is not None:
                self.links.append(found)


def _link(url: str, digest: str, python: str) -> _Link | None:
    file = unquote(urlsplit(url).path.rpartition("/")[2])
    if not file.endswith(".whl") or "/" in file or file.startswith("."):
        return None
    return _Link(url=url, file=file, digest=digest.lower(), python=python)
