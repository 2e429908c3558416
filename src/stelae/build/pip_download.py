"""Downloads of wheels by pip: from the index that the machine's configuration of pip names, checked by hash."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stelae.build.credentials import masked, pip_environment
from stelae.build.python_target import Target
from stelae.build.requirements import Pinned
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.system.command import Output, last_lines, run

SECONDS = 900
AT_ONCE = 4
"""How many pips run at the same time: each downloads one file after the other."""

_WORTH = 4  # wheels that are worth the start of one more pip
_NO_NETWORK = (b"NewConnectionError", b"Connection broken", b"Temporary failure", b"Read timed out", b"ProxyError",
               b"Max retries exceeded", b"connection error", b"Failed to connect")  # fmt: skip
_REFUSED = re.compile(rb"(?i)\b40[13] (client )?error|error:? 40[13]\b")


def download(
    wanted: Sequence[Pinned], target: Target, work: Path, credentials: Mapping[str, Path]
) -> tuple[Path, ...]:
    """Return the wheels of *wanted*, downloaded below the folder *work*.

    Raises InvalidInput when there is no such wheel for *target* or its digest is another, Unreachable when the index
    does not answer or refuses, Failed otherwise.
    """
    count = max(1, min(AT_ONCE, len(wanted) // _WORTH))
    parts = [wanted[number::count] for number in range(count)]
    folders = [work / f"pip-{number}" for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        for _ in pool.map(_download, parts, [target] * count, folders, [credentials] * count):
            pass
    return tuple(path for folder in folders for path in sorted(folder.glob("*.whl")))


def _download(wanted: Sequence[Pinned], target: Target, work: Path, credentials: Mapping[str, Path]) -> None:
    work.mkdir()
    lines = work / "requirements.txt"
    lines.write_text("".join(f"{pinned.line}\n" for pinned in wanted))
    log = work / "pip.log"
    platforms = [word for name in target.platforms for word in ("--platform", name)]
    output = run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--log", log, "--disable-pip-version-check",
         "--no-input",
         "--require-hashes", "--no-deps", "--only-binary=:all:", "--implementation", "cp",
         "--python-version", f"3.{target.minor}", "--abi", f"cp3{target.minor}", "--abi", "abi3", "--abi", "none",
         *platforms, "--dest", work, "--requirement", lines],
        env={**pip_environment(credentials), "TMPDIR": str(work), "LC_ALL": "C.UTF-8"}, timeout=SECONDS, check=False,
    )  # fmt: skip
    if output.status != 0:
        raise _problem(output, _not_fetched(log))


def _not_fetched(log: Path) -> bytes:
    """Return the lines of pip's log about indexes that did not answer or refused: it prints them nowhere else."""
    if not log.exists():
        return b""
    with log.open("rb") as lines:
        return b"".join(line.split(b" ", 1)[-1] for line in lines if b"Could not fetch URL" in line)


def _problem(output: Output, not_fetched: bytes) -> Failed | InvalidInput | Unreachable:
    details = tuple(masked(line) for line in (*last_lines(output.stderr), *last_lines(not_fetched)))
    if b"No space left on device" in output.stderr:
        return Failed("the disk is full", hint="stelae gc frees space; then build again")
    if b"DO NOT MATCH THE HASHES" in output.stderr:
        return InvalidInput("a package has another digest than its lock says", details=details)
    if _REFUSED.search(output.stderr + not_fetched):
        return Unreachable(
            "the package index refuses the credentials", details=details,
            hint="give a pip.conf or a netrc with the name and password of the index",
        )  # fmt: skip
    if any(word in output.stderr + not_fetched for word in _NO_NETWORK):
        return Unreachable("the package index does not answer", details=details, hint="check pip's configuration")
    if b"No matching distribution" in output.stderr:
        return InvalidInput(
            "the index has no fitting wheel of a package", details=details,
            hint="only wheels are installed, so that a build runs no code of a package",
        )  # fmt: skip
    return Failed("pip could not download the packages", details=details)
