"""The command line's outermost frame: whatever is raised inside becomes a few plain lines and an exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

from stelae.cli.interrupted import Interrupted
from stelae.cli.screen import ReaderGoneError, Screen
from stelae.domain.errors import StelaeError

BROKEN_PIPE = 141


def framed(work: Callable[[Screen], object], *, as_json: bool) -> int:
    """Do *work* with a screen and return the exit code: the one that it returns, or that of what it raises."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return _done(work, Screen(as_json=as_json))
    except (ReaderGoneError, BrokenPipeError):
        # The reader has left; the interpreter must not fail again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _done(work: Callable[[Screen], object], screen: Screen) -> int:
    try:
        code = work(screen)
        screen.finish()
    except KeyboardInterrupt:
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


def _unexpected(error: Exception, screen: Screen) -> int:
    if os.environ.get("STELAE_DEBUG"):
        import traceback

        traceback.print_exc()
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    screen.error(StelaeError(f"unexpected error: {what}", hint="STELAE_DEBUG=1 shows the details; please report it"))
    return 1
