"""Where an image comes from: SLSA's provenance v1, the predicate ``https://slsa.dev/provenance/v1``.

Source: SLSA specification 1.1, "Provenance". Nothing in it is secret: no setting of an environment, no content of a
file, no name of the machine.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from packageurl import PackageURL

from stelae import __version__
from stelae.attest.packages import KINDS, Distribution, Package, purl
from stelae.attest.statement import Json
from stelae.domain.digest import Digest, hex_of
from stelae.domain.image import Image, Source
from stelae.domain.inputs import Input
from stelae.domain.units import SECOND, Instant

PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://stelae.dev/build/recipe/v1"
"""What ``docs/verify.md`` describes: a commit with a ``stelae.toml`` and its lock becomes an image."""

BUILDER = "https://stelae.dev/builder/controller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """One making: of or for which image, from which source and inputs, when, and by which entry of the record.

    ``lock`` is the digest of the lock's text, ``format`` that of what was made, ``index`` that of the entry.
    """

    image: Image
    source: Source
    inputs: tuple[Input, ...]
    lock: Digest
    format: int
    architecture: str
    index: int
    started: Instant
    finished: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Build(Making):
    """One build that gave an image; ``network`` says that its steps had one, so that there may be more inputs than
    are known."""

    network: bool = False


def provenance(build: Build, distribution: Distribution, byproducts: Mapping[str, Digest]) -> Json:
    """Return the predicate for *build*; *byproducts* are documents that it made besides the image, by name."""
    source = build.source
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"source": source_uri(source), "path": source.path},
            "internalParameters": {
                "format": build.format, "architecture": build.architecture, "committed": source.versioned,
                **({"network": True} if build.network else {}),
            },
            "resolvedDependencies": dependencies(source, build.lock, build.inputs, distribution),
        },
        "runDetails": run_details(build.index, build.started, build.finished, byproducts),
    }  # fmt: skip


def dependencies(source: Source, lock: Digest, inputs: Iterable[Input], distribution: Distribution) -> list[Json]:
    """Return what a build took: the source, the lock (by its digest), and each of *inputs*."""
    return [
        {"uri": source_uri(source), "name": "source", "digest": {"gitCommit": source.commit}},
        {"name": "stelae.lock", "digest": {"sha256": hex_of(lock)}},
        *(_dependency(item, distribution) for item in sorted(inputs)),
    ]


def run_details(index: int, started: Instant, finished: Instant, byproducts: Mapping[str, Digest]) -> Json:
    """Return who built, by which entry of the record (*index*), when, and what else came of it."""
    return {
        "builder": {"id": BUILDER, "version": {"stelae": __version__}},
        "metadata": {
            "invocationId": f"ledger:{index}", "startedOn": _time(started), "finishedOn": _time(finished),
        },
        "byproducts": [
            {"name": name, "digest": {"sha256": hex_of(digest)}} for name, digest in sorted(byproducts.items())
        ],
    }  # fmt: skip


def source_uri(source: Source) -> str:
    """Return the name of the repository: the controller knows it by its mirror, and no address is recorded."""
    return f"git+stelae:{quote(source.repository)}"


def _dependency(item: Input, distribution: Distribution) -> Json:
    kind = KINDS.get(item.kind)
    if kind is None:
        name = item.name.rpartition("/")[2] or "base"
        url = str(PackageURL("oci", None, name, item.digest).to_string())
    else:
        package = Package(kind=kind, name=item.name, version=item.version, architecture=item.architecture)
        url = purl(package, distribution)
    return {"uri": url, "name": item.file or item.name, "digest": {"sha256": hex_of(item.digest)}}


def _time(at: Instant) -> str:
    return datetime.datetime.fromtimestamp(at // SECOND, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
