"""What was exported, as the one variable ``stelae`` of Terraform (and OpenTofu); ``docs/machines.md`` has its block.

A file whose name ends in ``.auto.tfvars.json`` is read by itself, any other ``.tfvars.json`` with ``-var-file``.
Source: the Terraform language, "Input Variables", "Variable Definitions (.tfvars) Files".
"""

from __future__ import annotations

from typing import Any

from stelae.domain.errors import InvalidInput

Json = dict[str, Any]

SUFFIX = ".tfvars.json"


def named(name: str) -> None:
    """Raise InvalidInput when Terraform would not read a file called *name* as variables in JSON."""
    if not name.endswith(SUFFIX):
        raise InvalidInput(
            f"Terraform reads variables in JSON from files that end in {SUFFIX}", where=name,
            hint="for example stelae.auto.tfvars.json, which it reads by itself",
        )  # fmt: skip


def variables(exported: Json) -> Json:
    """Return the values of the variables, as a ``.tfvars.json`` has them. All attributes are always there; what is
    not known is null."""
    built = exported["built"] or {}
    return {
        "stelae": {
            "app": exported["app"],
            "environment": exported["environment"] or None,
            "release": exported["release"] or None,
            "image": {"digest": exported["image"], "reference": _newest(exported["places"])},
            "disk": _disk(exported["disk"]) if exported["disk"] else None,
            "provenance": {
                **exported["provenance"],
                **{name: built.get(name) for name in ("builder", "source", "path", "commit", "finished")},
            },
        }
    }


def _disk(disk: Json) -> Json:
    file = disk["file"] or {}
    return {
        "digest": disk["digest"], "reference": _newest(disk["places"]), "raw": disk["raw"], "size": disk["size"],
        "file": file.get("path"), "file_format": file.get("format"), "file_digest": file.get("digest"),
        "root_hash": disk["root_hash"], "kernel": disk["kernel"], "architecture": disk["architecture"],
        "provenance": disk["provenance"],
    }  # fmt: skip


def _newest(places: list[Json]) -> str | None:
    return str(places[0]["name"]) if places else None
