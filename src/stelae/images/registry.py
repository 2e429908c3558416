"""Images in registries, by skopeo: fetched by digest, sent with their digests as they are.

Credentials are in the usual files, as skopeo finds them: $REGISTRY_AUTH_FILE, containers/auth.json in
$XDG_RUNTIME_DIR, ~/.docker/config.json and the helpers that they name, of the user that this process runs as; or in a
file that is given for one command. Certificates are the system's and those of /etc/containers/certs.d, or of a folder
that is given. Without TLS only this machine is talked to, unless that is asked for.

What went over is not sent again: a copy that was broken off goes on where it was. A registry that does not answer is
asked again, with pauses; one that says no is not.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stelae.domain.digest import Digest, digest_of, parse_digest
from stelae.domain.errors import Failed, InvalidInput, StelaeError, Unreachable
from stelae.system.architecture import architecture
from stelae.system.command import Output, last_lines, run

TRIES = 5
PAUSE = 0.5
"""Seconds before the second try; twice as long before each further one."""

_HERE = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?/")
_SECONDS = 1800
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_NAME = re.compile(r"[a-z0-9][A-Za-z0-9._:\[\]-]*(/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*")
_REFUSED = re.compile(
    rb"unauthorized|authentication required|denied|invalid username/password|status code: 40[13]|StatusCode: 40[13]",
    re.IGNORECASE,
)
_UNTRUSTED = re.compile(rb"x509: |certificate|server gave HTTP response to HTTPS client", re.IGNORECASE)
_ABSENT = re.compile(
    rb"manifest unknown|name unknown|not found|no image found in|repository name not known|StatusCode: 404",
    re.IGNORECASE,
)
_SILENT = re.compile(
    rb"connection re(fused|set)|broken pipe|no such host|timeout|timed out|network is unreachable|EOF|"
    rb"no route to host|"
    rb"TLS handshake|server misbehaving|too many requests|StatusCode: (5..|429)|status code: (5..|429)|"
    rb"status (code )?(5\d\d|429)|HTTP status: 5\d\d|50[0234] |internal server error|bad gateway|service unavailable|"
    rb"gateway timeout|unknown: unknown error|http2: |did not end within|closed pipe|server closed idle|"
    rb"transport connection broken|malformed HTTP|stream error|use of closed", re.IGNORECASE
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a registry is talked to: *authfile* holds credentials for this command (None: those of the usual files),
    *certificates* is a folder of certificates (*.crt of authorities, *.cert and *.key of one's own), *insecure*
    allows to talk without TLS or with a certificate that nobody vouches for."""

    authfile: Path | None = None
    certificates: Path | None = None
    insecure: bool = False

    def options(self, name: str, side: str = "") -> list[str]:
        """Return skopeo's options for the registry of *name*; *side* is ``src-`` or ``dest-`` for a copy."""
        found = [f"--{side}tls-verify=false"] if self.is_plain(name) else []
        if self.authfile is not None:
            found.append(f"--{side}authfile={self.authfile}")
        if self.certificates is not None:
            found.append(f"--{side}cert-dir={self.certificates}")
        return found

    def is_plain(self, name: str) -> bool:
        """Say whether the registry of *name* may be talked to without TLS."""
        return self.insecure or bool(_HERE.match(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An image in a registry: a name, with a tag or a digest or both ("" for what is not given)."""

    name: str
    tag: str = ""
    digest: Digest | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def asked(self) -> str:
        """What a registry is asked for: the digest where there is one."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag or 'latest'}"


def parse_place(text: str) -> Place:
    """Return ``NAME[:TAG][@DIGEST]`` in parts; raises InvalidInput."""
    rest, at, digest = text.partition("@")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, colon, tag = rest, "", ""
    if not _NAME.fullmatch(name) or (colon and not _TAG.fullmatch(tag)):
        raise InvalidInput(
            f"not the name of an image in a registry: {text!r}", hint="HOST/PATH:TAG, or HOST/PATH@DIGEST"
        )
    return Place(name=name, tag=tag, digest=parse_digest(digest) if at else None)


def resolve(name: str, access: Access = Access(), *, where: str = "") -> Digest:
    """Return the digest of what *name* (``NAME:TAG``) is in its registry now. Raises as ``fetch``."""
    done = _skopeo(["inspect", "--raw", *access.options(name), f"docker://{name}"], name, where)
    return digest_of(done.stdout)


def fetch(place: Place, folder: Path, access: Access = Access(), *, where: str = "", exactly: bool = False) -> None:
    """Make *folder* an OCI layout that holds the image of *place* for this machine's architecture; what of it is
    there already is not fetched again. With *exactly* an image in docker's own form is refused, not converted.

    Raises InvalidInput when the registry does not have it, Failed when it does not let us in, shows a certificate
    that nobody vouches for, or the image cannot be kept as it is, Unreachable when the registry does not answer.
    """
    copy = ["copy", "--quiet", *access.options(place.name, "src-")]
    ends = [f"docker://{place.asked}", f"oci:{folder}"]
    try:
        _skopeo([*copy, "--preserve-digests", *ends], str(place), where, folder.parent)
    except Failed as error:
        if exactly or not any("preserve digests" in line for line in error.details):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        _skopeo([*copy, *ends], str(place), where, folder.parent)


def send(layout: Path, place: Place, access: Access = Access()) -> None:
    """Send the one image of *layout* to *place*, as it is; raises as ``fetch``."""
    copy = ["copy", "--quiet", "--preserve-digests", *access.options(place.name, "dest-")]
    _skopeo([*copy, f"oci:{layout}", f"docker://{place.asked}"], str(place), "", layout.parent)


def _skopeo(arguments: Sequence[str], shown: str, where: str, temporary: Path | None = None) -> Output:
    """Run skopeo, again while the registry does not answer."""
    begin = ["skopeo", "--insecure-policy", *([f"--tmpdir={temporary}"] if temporary else [])]
    pause = PAUSE
    for left in reversed(range(TRIES)):
        output = run([*begin, *arguments], timeout=_SECONDS, check=False)
        if output.status == 0:
            return output
        problem = _problem(shown, output.stderr, where)
        if not left or not isinstance(problem, Unreachable):
            raise problem
        time.sleep(pause)
        pause *= 2
    raise AssertionError("unreachable")


def _problem(shown: str, said: bytes, where: str) -> StelaeError:
    details = last_lines(said)
    if b"for architecture" in said:
        return InvalidInput(
            f"{shown} has no image for {architecture()}, this machine's architecture", where=where,
            hint="an image has one architecture, that of the machine that builds it", details=details,
        )  # fmt: skip
    if _ABSENT.search(said):
        return InvalidInput(
            f"the registry has no {shown}", where=where, details=details,
            hint="look at the name and the tag; a registry may also hide what one may not see",
        )  # fmt: skip
    if _REFUSED.search(said):
        return Failed(
            f"the registry of {shown} does not let us in", where=where, details=details,
            hint="log in as the controller's user (skopeo login), or give --authfile",
        )  # fmt: skip
    if _SILENT.search(said):
        return Unreachable(
            f"the registry of {shown} does not answer", where=where, details=details, hint="try again later"
        )
    if _UNTRUSTED.search(said):
        return Failed(
            f"the registry of {shown} shows a certificate that nobody here vouches for", where=where, details=details,
            hint="put its authority's certificate into /etc/containers/certs.d/HOST:PORT/ca.crt, or give --cert-dir",
        )  # fmt: skip
    return Failed(f"skopeo could not copy {shown}", where=where, details=details)
