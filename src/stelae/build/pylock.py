"""``pylock.toml``, PEP 751: the packages that its markers choose for the image's Python.

No extras, and the dependency groups that the file calls its defaults. The addresses in it are not used, save that of
an archive that is in no index: name, version and hash say all. What is chosen is ``packaging``'s business.
Source: packaging.python.org, "pylock.toml Specification", lock-version 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from packaging.markers import Environment, UndefinedComparison, UndefinedEnvironmentName
from packaging.pylock import (
    Package,
    PackageArchive,
    PackageDirectory,
    PackageVcs,
    Pylock,
    PylockSelectError,
    PylockValidationError,
)

from stelae.build.python_target import Target
from stelae.build.requirements import Pinned
from stelae.build.uv_lock import checked_name, checked_url, file_name, no_wheel, pin
from stelae.domain.errors import InvalidInput

_AGAIN = "write it again, for example: uv export --format pylock.toml --no-dev"


def read(document: Mapping[str, Any], where: str, target: Target) -> tuple[Pinned, ...]:
    """Return the packages for *target*.

    Raises InvalidInput for a Python or a machine that the file excludes, a package from git or a folder, one without
    a fitting wheel, and what is damaged.
    """
    try:
        lock = Pylock.from_dict(document)
        chosen = list(lock.select(environment=cast("Environment", target.markers), tags=target.tags))
    except (PylockValidationError, PylockSelectError) as error:
        raise InvalidInput(str(error)[:500], where=where, hint=_AGAIN) from error
    except (TypeError, ValueError, KeyError, AttributeError, UndefinedComparison, UndefinedEnvironmentName) as error:
        raise InvalidInput(f"it is damaged: {str(error)[:200]}", where=where, hint=_AGAIN) from error
    return tuple(_pin(package, what, where) for package, what in chosen)


def _pin(package: Package, what: object, where: str) -> Pinned:
    name = checked_name(package.name, where)
    if isinstance(what, PackageVcs | PackageDirectory):
        kind = "version control" if isinstance(what, PackageVcs) else "a folder"
        raise InvalidInput(
            f"{name} comes from {kind}, and a build takes packages of an index only", where=where,
            hint="publish it to an index that the builder reaches, or copy it into the app",
        )  # fmt: skip
    if isinstance(what, PackageArchive):
        return _archive(name, package, what, where)
    if package.version is None:
        raise InvalidInput(f"{name} has no version", where=where, hint=_AGAIN)
    files = [
        (file_name({"name": wheel.filename}), wheel.hashes["sha256"])
        for wheel in package.wheels or ()
        if "sha256" in wheel.hashes
    ]
    if not files:
        raise no_wheel(name, str(package.version), where)
    return pin(name, str(package.version), files)


def _archive(name: str, package: Package, archive: PackageArchive, where: str) -> Pinned:
    if archive.url is None:
        raise InvalidInput(f"{name} comes from a file, and a build takes packages of an index only", where=where)
    file = file_name({"url": archive.url})
    if not file.endswith(".whl") or "sha256" not in archive.hashes:
        raise no_wheel(name, str(package.version or ""), where)
    url = checked_url(archive.url, name, where)
    return pin(name, str(package.version or file.split("-")[1]), [(file, archive.hashes["sha256"])], url)
