"""The command line's outermost frame: whatever is raised inside becomes a few plain lines and an exit code."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence

import click

from stelae.cli.app import stelae
from stelae.cli.common import Interrupted
from stelae.cli.screen import ReaderGoneError, Screen
from stelae.domain.errors import InvalidInput, StelaeError

BROKEN_PIPE = 141


def run(arguments: Sequence[str]) -> int:
    """Run the verb that *arguments* name and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    before_command = list(arguments)[: arguments.index("--")] if "--" in arguments else arguments
    screen = Screen(as_json="--json" in before_command)
    try:
        return _run(arguments, screen)
    except (ReaderGoneError, BrokenPipeError):
        # The reader has left; the interpreter must not fail again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _run(arguments: Sequence[str], screen: Screen) -> int:
    try:
        code = stelae.main(args=list(arguments), prog_name="stelae", standalone_mode=False, obj=screen)
        screen.finish()
    except click.UsageError as error:
        screen.error(_usage(error))
        return InvalidInput.exit_code
    except (click.Abort, KeyboardInterrupt):
        screen.error(Interrupted("interrupted"))
        return Interrupted.exit_code
    except StelaeError as error:
        screen.error(error)
        return error.exit_code
    except (ReaderGoneError, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001 - the outermost frame
        return _unexpected(error, screen)
    return code if isinstance(code, int) else 0


def _usage(error: click.UsageError) -> StelaeError:
    message = error.format_message().rstrip(".")
    path = error.ctx.command_path if error.ctx else "stelae"
    return InvalidInput(message[:1].lower() + message[1:], hint=f"try: {path} --help")


def _unexpected(error: Exception, screen: Screen) -> int:
    if os.environ.get("STELAE_DEBUG"):
        traceback.print_exc()
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    screen.error(StelaeError(f"unexpected error: {what}", hint="STELAE_DEBUG=1 shows the details; please report it"))
    return 1
