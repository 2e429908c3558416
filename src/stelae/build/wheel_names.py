"""What the name of a wheel's file says. Source: the binary distribution format of the Python packaging guide."""

from __future__ import annotations

from packaging.tags import Tag
from packaging.utils import BuildTag, InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from stelae.domain.errors import InvalidInput


def parsed(name: str) -> tuple[str, Version, BuildTag, frozenset[Tag]]:
    """Return what the name of a wheel's file says; raises InvalidInput."""
    try:
        project, version, build, tags = parse_wheel_filename(name)
    except (InvalidWheelFilename, ValueError) as error:
        raise InvalidInput(f"not the name of a wheel: {error}", where=name[:200]) from error
    return canonicalize_name(project), version, build, tags
