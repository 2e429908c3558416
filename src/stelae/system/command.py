"""Run a system tool: an argument list, a deadline, a typed error that carries the tool's last words."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stelae.domain.errors import Failed, Unreachable

LAST_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a tool printed, and its exit status."""

    status: int
    stdout: bytes
    stderr: bytes


def last_lines(data: bytes, count: int = LAST_LINES) -> tuple[str, ...]:
    """Return the last *count* lines of *data* that are not blank, for an error's details."""
    lines = [line.rstrip() for line in data.decode("utf-8", "replace").splitlines()]
    return tuple([line for line in lines if line][-count:])


def run(
    argv: Sequence[str | Path],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60,
    check: bool = True,
) -> Output:
    """Run *argv* and return its output; raises Failed on a status other than 0 (unless *check* is false)
    and on a time-out (seconds), Unreachable when the tool is not installed."""
    arguments = [str(item) for item in argv]
    try:
        done = subprocess.run(
            arguments, input=stdin if stdin is not None else b"", capture_output=True,
            env=dict(env) if env is not None else None, cwd=cwd, timeout=timeout, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        if cwd is not None and not cwd.exists():
            raise Failed(f"the folder {cwd} is missing") from error
        raise Unreachable(f"{arguments[0]} is not installed", hint="stelae doctor says what is missing") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(
            f"{arguments[0]} did not end within {timeout:g} s", details=last_lines(error.stderr or b"")
        ) from error
    output = Output(status=done.returncode, stdout=done.stdout, stderr=done.stderr)
    if check and output.status != 0:
        raise Failed(
            f"{arguments[0]} ended with status {output.status}",
            details=last_lines(output.stderr) or last_lines(output.stdout),
        )
    return output
