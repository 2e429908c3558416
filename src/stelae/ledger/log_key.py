"""The key that signs checkpoints: one line in a file that only its owner can read, made when it is first needed.

It has the log's name (its origin) in it, so that name and key are never apart.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from stelae.domain.errors import Failed, InvalidInput
from stelae.ledger.note import Signer, parse_skey
from stelae.system import points
from stelae.system.files import write_atomic

_NOT_IN_NAMES = re.compile(r"[^a-z0-9.-]+")


def log_name(host: str, installation: str) -> str:
    """Return a name for the log of *installation* on *host*, as C2SP wants it: like an address without a scheme.

    Its end is drawn by lot, so that two machines of one name have two logs.
    """
    place = _NOT_IN_NAMES.sub("-", host.lower()).strip("-.") or "localhost"
    return f"{place}/{installation}/{secrets.token_hex(4)}"


@points.around("ledger.publish")
def log_signer(path: Path, name: str, *, may_make: bool) -> Signer:
    """Return the key in *path*, or make one with *name* there.

    Raises Failed when it cannot be read, is none, or is missing where it may not be made: what an earlier key
    signed would be another log.
    """
    try:
        return parse_skey(path.read_text("utf-8").removesuffix("\n"))
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError, InvalidInput) as error:
        raise Failed(
            f"the key of the log cannot be read: {error}", where=str(path), hint="restore it from a backup"
        ) from error
    if not may_make:
        raise Failed(
            "the key of the log is missing, though it has signed checkpoints", where=str(path),
            hint="restore it from a backup; to begin a new log, move the folder of published files away",
        )  # fmt: skip
    signer = Signer(name, secrets.token_bytes(32))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.parent.chmod(0o700)
    write_atomic(path, f"{signer.skey}\n".encode(), mode=0o600)
    return signer
