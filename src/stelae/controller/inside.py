"""Use cases that look into images: what is proven of one, what is inside, what differs between two."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from anyio import to_thread

from stelae.attest.checking import Evidence, Proof
from stelae.attest.contents import Inspector
from stelae.attest.difference import difference
from stelae.attest.packages import Package, purl
from stelae.attest.sbom import LAYER
from stelae.controller import references
from stelae.controller.admission import Admission
from stelae.controller.proofs import revocation_view
from stelae.controller.record import Record
from stelae.core import secrets, trust
from stelae.domain.digest import short
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.image import Image
from stelae.domain.release import Release
from stelae.domain.trust import Requirement
from stelae.images.layout import Layout

Json = dict[str, Any]

DOCUMENTS = {"sbom": Requirement.SBOM, "provenance": Requirement.PROVENANCE}

_COMMIT = re.compile(r"[0-9a-f]{4,64}")


class Inside:
    """Answers about images in *layout*."""

    def __init__(self, record: Record, layout: Layout, inspector: Inspector, admission: Admission) -> None:
        self._record = record
        self._layout = layout
        self._inspector = inspector
        self._admission = admission

    async def proof(self, ref: str) -> Json:
        """See ``Service.proof``."""
        state = self._record.state
        disk = references.as_disk(state, ref)
        name = disk or self.image(ref).digest
        found = await self._admission.proof(name)
        packages: list[Json] = []
        if disk is not None:
            packages = _listed(found.of(Requirement.SBOM))
        elif not found.problems:
            contents = await to_thread.run_sync(self._inspector.contents, name)
            packages = [_package(item, purl(item, contents.distribution)) for item in contents.packages]
        return {
            "image": name,
            "trusted": not found.problems and not trust.revocation(state, name),
            **{need.value: _proven(found, need) for need in Requirement},
            "built": built_from(found.of(Requirement.PROVENANCE)),
            "revoked": revocation_view(state, name),
            "problems": list(found.problems),
            "counts": dict(sorted(Counter(item["kind"] for item in packages).items())),
            "packages": packages,
        }

    async def document(self, ref: str, kind: str) -> Json:
        """See ``Service.document``."""
        disk = references.as_disk(self._record.state, ref)
        name = disk or self.image(ref).digest
        proof = await self._admission.proof(name)
        found = proof.of(DOCUMENTS[kind])
        if found is None or proof.problems:
            raise Failed(
                f"{'image' if disk is None else 'disk'} {short(name)} {proof.lacks(DOCUMENTS[kind])}",
                hint="only what was verified is shown; build the commit again, and it is signed",
            )
        return {"image": name, "key": found.key, "document": found.predicate}

    async def diff(self, old: str, new: str) -> Json:
        """Return what differs between what *old* and *new* mean; see ``Service.diff``."""
        return await self.compare(self.resolve(old), self.resolve(new))

    async def compare(self, old: tuple[Image, Release | None], new: tuple[Image, Release | None]) -> Json:
        """Return what differs between two images, and between their releases where both are given."""
        (one, one_settings), (other, other_settings) = old, new
        found = await to_thread.run_sync(difference, self._layout, self._inspector, one, other)
        return {
            "old": one.digest,
            "new": other.digest,
            "packages": [
                {"kind": item.kind, "name": item.name, "old": item.old, "new": item.new} for item in found.packages
            ],
            "files": [
                {"path": item.path, "old": _file(item.old), "new": _file(item.new), "content": item.content}
                for item in found.files
            ],
            "layers": [
                {"digest": digest, "size": size, "old": before, "new": after}
                for digest, size, before, after in found.layers
            ],
            "processes": [{"name": name, "change": change} for name, change in found.processes],
            "settings": _settings(one_settings, other_settings),
            "secrets": _secrets(one_settings, other_settings),
        }

    def image(self, ref: str) -> Image:
        """Return the image that *ref* means; raises InvalidInput."""
        return self.resolve(ref)[0]

    def resolve(self, ref: str) -> tuple[Image, Release | None]:
        """Return the image that an image, a release, an environment or a commit means, and the release if any."""
        state = self._record.state
        if "/" in ref:
            env = references.environment(state, EnvironmentId(ref))
            if env.stable is None:
                raise InvalidInput(f"{env.id} runs nothing", hint="deploy to it first: stelae deploy")
            release = env.releases[env.stable]
            return references.image(state, release.image).image, release
        if ref.startswith("r-"):
            found = [
                release
                for env in state.environments.values()
                for name, release in env.releases.items()
                if name.startswith(ref)
            ]
            if len(found) != 1:
                raise InvalidInput(f"{ref!r} names {len(found)} releases", hint="stelae history lists them")
            return references.image(state, found[0].image).image, found[0]
        built = [item for item in state.images.values() if any(s.commit.startswith(ref) for s in item.sources)]
        if _COMMIT.fullmatch(ref) and built:
            return max(built, key=lambda item: item.last_built_at).image, None
        return references.image(state, ref).image, None


def _proven(proof: Proof, need: Requirement) -> Json:
    found = proof.of(need)
    lacks = proof.lacks(need)
    return {"ok": not lacks, "key": found.key if found and not lacks else "", "why": lacks}


def built_from(found: Evidence | None) -> Json | None:
    """What the provenance says, in short; it was verified before."""
    if found is None:
        return None
    try:
        definition, run = found.predicate["buildDefinition"], found.predicate["runDetails"]
        dependencies = definition["resolvedDependencies"]
        return {
            "source": str(definition["externalParameters"]["source"]),
            "path": str(definition["externalParameters"]["path"]),
            "commit": str(dependencies[0]["digest"]["gitCommit"]),
            "inputs": len(dependencies) - 2,
            "builder": str(run["builder"]["id"]),
            "finished": str(run["metadata"]["finishedOn"]),
        }
    except (KeyError, TypeError, IndexError):
        return None  # of another builder, whose fields are others


def _listed(found: Evidence | None) -> list[Json]:
    """Return the packages that the list of a disk says, which was verified before; none where it is not ours."""
    try:
        return [_component(item) for item in found.predicate["components"]] if found is not None else []
    except (KeyError, TypeError, IndexError, AttributeError):
        return []


def _component(item: Json) -> Json:
    return {
        "kind": str(item["purl"]).removeprefix("pkg:").partition("/")[0], "name": str(item["name"]),
        "version": str(item["version"]), "purl": str(item["purl"]),
        "licences": [str(one.get("expression") or one["license"]["name"]) for one in item.get("licenses", ())],
        "layer": next(one["value"] for one in item["properties"] if one["name"] == LAYER),
    }  # fmt: skip


def _package(item: Package, url: str) -> Json:
    return {
        "kind": item.kind.value, "name": item.name, "version": item.version, "purl": url,
        "licences": list(item.licences), "layer": item.layer,
    }  # fmt: skip


def _file(said: tuple[str, int, str, int] | None) -> Json | None:
    if said is None:
        return None
    kind, mode, owner, size = said
    return {"kind": kind, "mode": f"{mode:04o}", "owner": owner, "size": size}


def _secrets(old: Release | None, new: Release | None) -> list[Json]:
    """Return the secrets that differ, by version."""
    if old is None or new is None:
        return []
    return [{"name": name, "old": one, "new": two} for name, (one, two) in secrets.differences(old, new).items()]


def without_files(old: tuple[Image, Release | None], new: tuple[Image, Release | None]) -> Json:
    """Return what can be said of the difference where one of the images is not here any more."""
    (one, one_settings), (other, other_settings) = old, new
    return {
        "old": one.digest, "new": other.digest, "packages": [], "files": [], "layers": [], "processes": [],
        "settings": _settings(one_settings, other_settings), "secrets": _secrets(one_settings, other_settings),
    }  # fmt: skip


def _settings(old: Release | None, new: Release | None) -> list[Json]:
    """Return the names of the settings that differ; their values are told to nobody who did not ask for them."""
    if old is None or new is None:
        return []
    before, after = old.settings, new.settings
    return [
        {"name": name, "change": "added" if name not in before else "removed" if name not in after else "changed"}
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
