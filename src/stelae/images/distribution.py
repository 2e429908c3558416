"""What skopeo does not do with a registry: manifests that speak of an image, sent and asked for.

Source: OCI distribution specification 1.1. Answers are limited in size, and what comes has to have the digest that it
was asked for by.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

from stelae.domain.canonical import canonical
from stelae.domain.digest import Digest, digest_of, hex_of
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.images.layout import INDEX, MANIFEST
from stelae.images.registry import PAUSE, TRIES, Access
from stelae.images.registry_login import credentials

MAX_DOCUMENT = 4 << 20

_SECONDS = 60
_LATER = (408, 425, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_MOST_PAGES = 100
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a registry said: the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Repository:
    """The repository *name* (``HOST/PATH``) of a registry. Not for several threads at once."""

    name: str
    access: Access
    _scheme: str = ""
    _authorization: str = ""
    _tls: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self._tls = _context(self.access, self.name)

    @property
    def _host(self) -> str:
        return self.name.partition("/")[0]

    @property
    def _path(self) -> str:
        return self.name.partition("/")[2]

    def blob(self, digest: Digest, limit: int) -> bytes:
        """Return the blob *digest*; raises InvalidInput when it is not there, larger or another."""
        return self._checked(f"blobs/{digest}", digest, limit)

    def manifest(self, digest: Digest) -> bytes:
        """Return the manifest *digest*; raises as ``blob``."""
        return self._checked(f"manifests/{digest}", digest, MAX_DOCUMENT)

    def has(self, digest: Digest) -> bool:
        """Say whether the manifest *digest* is there."""
        answer = self._ask("HEAD", f"manifests/{digest}", headers={"Accept": f"{MANIFEST}, {INDEX}"})
        return answer.status != 404 and bool(self._good(answer))

    def put_blob(self, data: bytes) -> None:
        """Send a blob, unless it is there."""
        digest = digest_of(data)
        if self._ask("HEAD", f"blobs/{digest}").status == 200:
            return
        begun = self._good(self._ask("POST", "blobs/uploads/", b""))
        place = begun.headers.get("location", "")
        url = urljoin(self._url("blobs/uploads/"), place)
        url += ("&" if urlsplit(url).query else "?") + urlencode({"digest": digest})
        self._good(self._ask("PUT", url, data, {"Content-Type": "application/octet-stream"}))

    def put_manifest(self, data: bytes, kind: str, tag: str = "") -> Answer:
        """Send a manifest by its digest, or as *tag*."""
        return self._good(self._ask("PUT", f"manifests/{tag or digest_of(data)}", data, {"Content-Type": kind}))

    def referrers(self, subject: Digest) -> list[dict[str, Any]]:
        """Return the descriptors of what speaks of *subject*: by the API, or by the tag where there is none."""
        found: list[dict[str, Any]] = []
        place = f"referrers/{subject}"
        for _ in range(_MOST_PAGES):
            answer = self._ask("GET", place, headers={"Accept": INDEX})
            if answer.status != 200:
                break
            found += _entries(answer.body)
            following = re.search(r'<([^>]+)>;\s*rel="?next', answer.headers.get("link", ""))
            if following is None:
                return found
            place = urljoin(self._url(place), following[1])
        return found + [item for item in self.tagged(subject) if item not in found]

    def tagged(self, subject: Digest) -> list[dict[str, Any]]:
        """Return the descriptors that the tag ``sha256-HEX`` lists."""
        answer = self._ask("GET", f"manifests/{tag_of(subject)}", headers={"Accept": INDEX})
        return _entries(self._good(answer).body) if answer.status != 404 else []

    def put_tagged(self, subject: Digest, entries: list[dict[str, Any]]) -> None:
        """Let the tag list *entries* besides those that it lists already."""
        known = self.tagged(subject)
        digests = {item.get("digest") for item in known}
        merged = [*known, *(item for item in entries if item["digest"] not in digests)]
        if len(merged) > len(known):
            data = canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": merged})
            self.put_manifest(data, INDEX, tag_of(subject))

    def _checked(self, place: str, digest: Digest, limit: int) -> bytes:
        answer = self._ask("GET", place, headers={"Accept": f"{MANIFEST}, {INDEX}"}, limit=limit)
        if answer.status == 404:
            raise InvalidInput(f"the registry has no {self.name}@{digest}")
        body = self._good(answer).body
        if digest_of(body) != digest:
            raise InvalidInput(f"the registry gave other bytes than {self.name}@{digest}")
        return body

    def _good(self, answer: Answer) -> Answer:
        if answer.status // 100 != 2:
            said = answer.body[:300].decode("utf-8", "replace").strip()
            raise Failed(f"the registry of {self.name} answered {answer.status}", details=(said,) if said else ())
        return answer

    def _url(self, place: str) -> str:
        return f"{self._scheme or 'https'}://{self._host}/v2/{quote(self._path)}/{place}"

    def _ask(
        self, method: str, place: str, body: bytes | None = None, headers: Mapping[str, str] | None = None,
        limit: int = MAX_DOCUMENT,
    ) -> Answer:  # fmt: skip
        """Ask, again while the registry does not answer. Raises Failed for a wrong password or a certificate that
        nobody vouches for, Unreachable when it does not answer."""
        given = dict(headers or {})
        if not self._scheme:
            self._scheme = _retried(self._greet)
        answer = _retried(lambda: self._once(method, place, body, given, limit))
        if answer.status == 401:
            self._authorization = self._login(answer.headers.get("www-authenticate", ""))
            answer = _retried(lambda: self._once(method, place, body, given, limit))
        if answer.status in (401, 403):
            raise Failed(
                f"the registry of {self.name} does not let us in",
                hint="log in as the controller's user (skopeo login), or give --authfile",
            )
        return answer

    def _greet(self) -> str:
        """Return how the registry is talked to: with TLS, or where that is allowed without."""
        if not self.access.is_plain(self.name):
            return "https"
        try:
            _exchange(f"https://{self._host}/v2/", "GET", None, {}, self._tls, MAX_DOCUMENT)
        except (Failed, Unreachable):
            _exchange(f"http://{self._host}/v2/", "GET", None, {}, self._tls, MAX_DOCUMENT)
            return "http"
        return "https"

    def _once(self, method: str, place: str, body: bytes | None, headers: Mapping[str, str], limit: int) -> Answer:
        url = place if "://" in place else self._url(place)
        for _ in range(_MOST_REDIRECTS):
            own = urlsplit(url).netloc == self._host
            sent = {**headers, **({"Authorization": self._authorization} if own and self._authorization else {})}
            answer = _exchange(url, method, body, sent, self._tls, limit)
            if answer.status not in _REDIRECTS or "location" not in answer.headers:
                return answer
            url = urljoin(url, answer.headers["location"])
        raise Failed(f"the registry of {self.name} sends us round in circles")

    def _login(self, challenge: str) -> str:
        known = credentials(self.name, self.access.authfile)
        basic = "Basic " + base64.b64encode(known.encode()).decode() if known else ""
        if challenge.lower().startswith("basic"):
            return basic
        asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        if not challenge.lower().startswith("bearer") or "realm" not in asked:
            return ""
        scope = f"repository:{self._path}:pull,push"
        query = urlencode({"service": asked.get("service", ""), "scope": asked.get("scope", scope)})
        url = asked["realm"] + ("&" if urlsplit(asked["realm"]).query else "?") + query
        if urlsplit(url).scheme != "https" and not self.access.is_plain(urlsplit(url).netloc + "/"):
            raise Failed(f"the registry of {self.name} asks for a password without TLS")
        headers = {"Authorization": basic} if basic else {}
        answer = _retried(lambda: _exchange(url, "GET", None, headers, self._tls, MAX_DOCUMENT))
        try:
            document = json.loads(answer.body) if answer.status == 200 else {}
            token = document.get("token") or document.get("access_token") or ""
        except (ValueError, AttributeError, RecursionError):
            token = ""
        return f"Bearer {token}" if token else ""


def tag_of(subject: Digest) -> str:
    """Return the tag of the list of what speaks of *subject*."""
    return f"sha256-{hex_of(subject)}"


def _entries(body: bytes) -> list[dict[str, Any]]:
    try:
        found = json.loads(body)["manifests"]
        if not all(isinstance(item["digest"], str) for item in found):
            raise ValueError("a descriptor without a digest")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Failed("the registry gave a list of signatures that is none") from error
    return list(found)


def _context(access: Access, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    host = name.partition("/")[0]
    system = [Path("/etc/containers/certs.d", host), Path("/etc/docker/certs.d", host)]
    for folder in [access.certificates] if access.certificates is not None else system:
        try:
            for path in sorted(folder.glob("*.crt")):
                context.load_verify_locations(path)
            for path in sorted(folder.glob("*.cert")):
                context.load_cert_chain(path, path.with_suffix(".key"))
        except OSError as error:  # ssl.SSLError is one
            raise InvalidInput(f"a certificate cannot be used: {error}", where=str(folder)) from error
    if access.is_plain(name):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _exchange(
    url: str, method: str, body: bytes | None, headers: Mapping[str, str], tls: ssl.SSLContext, limit: int
) -> Answer:
    parts = urlsplit(url)
    plain = parts.scheme == "http"
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection = (
        http.client.HTTPConnection(parts.netloc, timeout=_SECONDS) if plain
        else http.client.HTTPSConnection(parts.netloc, timeout=_SECONDS, context=tls)
    )  # fmt: skip
    try:
        with closing(connection):
            connection.request(method, target, body, dict(headers))
            answer = connection.getresponse()
            data = answer.read(limit + 1)
            found = {name.lower(): value for name, value in answer.getheaders()}
    except ssl.SSLCertVerificationError as error:
        raise Failed(
            f"the registry {parts.netloc} shows a certificate that nobody here vouches for: {error.verify_message}",
            hint="put its authority's certificate into /etc/containers/certs.d/HOST:PORT/ca.crt, or give --cert-dir",
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = str(error) or type(error).__name__
        raise Unreachable(f"the registry {parts.netloc} does not answer: {why}", hint="try again later") from error
    if len(data) > limit:
        raise InvalidInput(f"the registry {parts.netloc} sent more than {limit} bytes")
    if answer.status in _LATER:
        raise Unreachable(
            f"the registry {parts.netloc} answered {answer.status} again and again", hint="try again later"
        )
    return Answer(status=answer.status, headers=found, body=data)


def _retried(ask: Callable[[], _T]) -> _T:
    pause = PAUSE
    for _ in range(TRIES - 1):
        try:
            return ask()
        except Unreachable:
            time.sleep(pause)
            pause *= 2
    return ask()
