"""Runs a verb by click, which reads the words of the command line."""

from __future__ import annotations

from collections.abc import Sequence

import click

from stelae.cli.app import stelae
from stelae.cli.frame import framed
from stelae.cli.interrupted import Interrupted
from stelae.cli.screen import Screen
from stelae.domain.errors import InvalidInput, StelaeError


def run(arguments: Sequence[str]) -> int:
    """Run the verb that *arguments* name and return the exit code."""

    def work(screen: Screen) -> object:
        try:
            return stelae.main(args=list(arguments), prog_name="stelae", standalone_mode=False, obj=screen)
        except click.UsageError as error:
            raise _usage(error) from error
        except click.Abort:
            raise Interrupted("interrupted") from None

    before_command = list(arguments)[: arguments.index("--")] if "--" in arguments else arguments
    return framed(work, as_json="--json" in before_command)


def _usage(error: click.UsageError) -> StelaeError:
    message = error.format_message().rstrip(".")
    path = error.ctx.command_path if error.ctx else "stelae"
    return InvalidInput(message[:1].lower() + message[1:], hint=f"try: {path} --help")
