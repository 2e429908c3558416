"""Which image of an index is meant: the one with a tag, and of several architectures this machine's.

Source: OCI image specification 1.1, image-index.md; docker's manifest lists have the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stelae.domain.digest import Digest, parse_digest
from stelae.domain.errors import InvalidInput
from stelae.system.architecture import architecture

REF_NAME = "org.opencontainers.image.ref.name"

_DEEPEST = 3


def narrowed(
    entries: Sequence[Mapping[str, Any]], tag: str, read: Callable[[Digest], Mapping[str, Any]], where: str
) -> Digest:
    """Return the digest of the image's manifest: that of *entries*, the descriptors of an index, with *tag* (any when
    it is empty), followed through indexes of architectures by *read*. Raises InvalidInput when not just one fits."""
    try:
        named = [entry for entry in entries if tag in ("", _name(entry))]
        if len(named) != 1:
            named = [entry for entry in named if _fits(entry)]
        for _ in range(_DEEPEST):
            if len(named) != 1:
                names = sorted({_name(entry) for entry in entries} - {""})
                raise InvalidInput(
                    f"{len(named)} images of it fit {tag or 'no tag'!r} and {architecture()}", where=where,
                    hint=f"its tags: {', '.join(names) or 'none'}",
                )  # fmt: skip
            digest = parse_digest(str(named[0]["digest"]))
            document = read(digest)
            if "manifests" not in document:
                return digest
            named = [entry for entry in document["manifests"] if _fits(entry)]
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"not an index of images: {error!r}", where=where) from error
    raise InvalidInput("an index of an index of an index", where=where)


def _name(entry: Mapping[str, Any]) -> str:
    return str((entry.get("annotations") or {}).get(REF_NAME, ""))


def _fits(entry: Mapping[str, Any]) -> bool:
    platform = entry.get("platform") or {"os": "linux", "architecture": architecture()}
    return bool(platform.get("os") == "linux" and platform.get("architecture") == architecture())
