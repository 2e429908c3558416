"""How an instance was launched: its bundle, and what the kernel showed of it before its program began.

It is written once, between the creation of the container and the start of its program, when all is as the runtime
made it and nobody could have touched it. An inspection compares the running instance with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stelae.images.roots import LayerFile
from stelae.platforms.local.facts import Facts, facts_of, read
from stelae.platforms.local.place import Place
from stelae.platforms.local.process import ProcessId
from stelae.platforms.local.stamp import NOWHERE, stamp_of
from stelae.system.files import write_atomic

FILES = ("hosts", "hostname", "resolv.conf")
"""The files of the bundle that are mounted into an instance."""


LayerStamps = Mapping[str, tuple[int, ...]]
"""The ``Stamp`` of the file of each layer, by the layer's digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """What was launched. ``bundle`` is the SHA-256 of ``config.json`` without the values of secrets, ``files``
    those of the files that are mounted, ``limits`` the content of the files of its control groups, ``layers`` the
    stamps of the files of its image's layers, ``process`` the first one."""

    bundle: str
    files: Mapping[str, str]
    limits: Mapping[str, str]
    layers: LayerStamps
    facts: Facts
    process: ProcessId


def save(
    place: Place, process: ProcessId, bundle: bytes, limits: Iterable[str], layers: Iterable[LayerFile]
) -> None:  # fmt: skip
    """Write how the instance at *place* was launched, whose *process* waits; *limits* are files of its control
    groups. Raises OSError when it has ended."""
    stamps: LayerStamps = {str(layer.digest): stamp_of(str(layer.file)) or NOWHERE for layer in layers}
    files = {name: sha256((place.folder / name).read_bytes()) for name in FILES if (place.folder / name).exists()}
    found = Launched(
        bundle=sha256(bundle), files=files, limits={file: read(file).decode() for file in limits},
        layers=stamps, facts=facts_of(process.pid), process=process,
    )  # fmt: skip
    write_atomic(place.launched, json.dumps(asdict(found)).encode(), durable=False)


def load(place: Place) -> Launched | None:
    """Return how the instance at *place* was launched; None when that was not written, or cannot be read."""
    try:
        content = json.loads(place.launched.read_bytes())
        facts = content["facts"]
        return Launched(
            bundle=content["bundle"],
            files=content["files"],
            limits=content["limits"],
            layers={digest: tuple(stamp) for digest, stamp in content["layers"].items()},
            facts=Facts(**facts | {"mounts": tuple(facts["mounts"]), "root": tuple(facts["root"])}),
            process=ProcessId(**content["process"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def bundle_of(place: Place) -> Mapping[str, Any] | None:
    """Return the bundle that lies in the run folder, without the values of secrets and the rules of its system call
    filter, which are long; None when there is none."""
    try:
        found: dict[str, Any] = json.loads((place.folder / "config.json").read_bytes())
        if "seccomp" in found["linux"]:
            found["linux"]["seccomp"] = {}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def sha256(data: bytes) -> str:
    """Return the SHA-256 of *data* in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
