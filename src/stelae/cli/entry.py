"""The ``stelae`` command's first frame: answers ``--version`` before anything slow is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (without the program's name) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        from stelae import __version__

        sys.stdout.write(f"stelae {__version__}\n")
        return 0
    if arguments in (["build"], ["build", "--json"]):
        from stelae.cli import quick

        code = quick.build(arguments)
        if argv is None:
            # Nothing is left to be done, all is written, and taking every module down takes longer than git does.
            os._exit(code)
        return code
    match arguments:
        case ["rollback", env] if not env.startswith("-"):
            from stelae.cli import quick

            return quick.rollback(env)
        case ["deploy", env, "--image", image] if image and not env.startswith("-"):
            from stelae.cli import quick

            return quick.deploy(env, image)
    from stelae.cli.run import run

    return run(arguments)
