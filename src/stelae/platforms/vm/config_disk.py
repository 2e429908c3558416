"""The config disk: what a machine is told at its boot, settings and secrets, as a small disk that is only read.

Format: one block of 512 bytes, ``stelae-config 1 BYTES SHA256`` and a line's end, filled with NUL; then BYTES of a
ustar archive (POSIX.1-1988) of plain files, sorted by name, each of root's with mode 0400 and time 0. The machine's
first program takes no other header, digest, size or name. Its files: ``args/000`` and on (one argument each),
``env/NAME``, ``secrets/NAME``, ``user`` (UID:GID), ``cwd``, ``address`` (A.B.C.D/BITS), ``gateway``, ``hostname``,
``hosts``, ``resolv.conf`` and ``tmpfs`` (a line each: BYTES UID GID PATH).
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface

from stelae.domain.errors import Failed
from stelae.domain.process import Tmpfs
from stelae.domain.units import MIB

SERIAL = "stelae-config"
"""By which a machine knows the disk."""

LARGEST = MIB
BLOCK = 512

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,80}")
_SECRET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,80}")
_MOST_ARGUMENTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a machine is told. ``variables`` and ``secrets`` are by name; ``tmpfs`` belongs to ``user``."""

    command: tuple[str, ...]
    variables: Mapping[str, str]
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    user: tuple[int, int]
    folder: str
    address: IPv4Interface
    gateway: str
    hostname: str
    hosts: str
    resolvers: str
    tmpfs: tuple[Tmpfs, ...] = ()


def config_disk(config: Config) -> bytes:
    """Return the disk that says *config*: the same bytes for the same words. Raises Failed for what it cannot say."""
    archive = _archive(_files(config))
    size = BLOCK + len(archive)
    if size > LARGEST:
        raise Failed(
            f"the settings and secrets take {size} bytes, and a machine is told {LARGEST} bytes at most",
            hint="give it fewer or smaller secrets",
        )
    head = f"stelae-config 1 {len(archive)} {hashlib.sha256(archive).hexdigest()}\n".encode("ascii")
    return head.ljust(BLOCK, b"\0") + archive


def _files(config: Config) -> dict[str, bytes]:
    if len(config.command) > _MOST_ARGUMENTS:
        raise Failed(f"the command has {len(config.command)} arguments, and a machine is told {_MOST_ARGUMENTS}")
    owner = f"{config.user[0]} {config.user[1]}"
    mounts = sorted(config.tmpfs, key=lambda entry: entry.path)
    texts = {f"args/{number:03}": word for number, word in enumerate(config.command)}
    texts |= {f"env/{_checked(name, _VARIABLE)}": value for name, value in config.variables.items()}
    texts |= {
        "user": f"{config.user[0]}:{config.user[1]}",
        "cwd": config.folder,
        "address": str(config.address),
        "gateway": config.gateway,
        "hostname": config.hostname,
        "hosts": config.hosts,
        "resolv.conf": config.resolvers,
        "tmpfs": "".join(f"{entry.size} {owner} {entry.path}\n" for entry in mounts),
    }
    if any("\0" in text for text in texts.values()):
        raise Failed("a machine cannot be told a word with a NUL in it")
    files = {name: text.encode("utf-8", "surrogateescape") for name, text in texts.items()}
    return files | {f"secrets/{_checked(name, _SECRET)}": value for name, value in config.secrets.items()}


def _checked(name: str, form: re.Pattern[str]) -> str:
    if not form.fullmatch(name):
        raise Failed(f"a machine cannot be told a variable or secret of this name: {name[:100]!r}")
    return name


def _archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), 0o400, 0
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
