"""The verbs, each imported when it is used."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from stelae import __version__

VERBS = (
    "up", "down", "env", "init", "lock", "build", "plan", "render", "deploy", "promote", "approve", "reject",
    "rollback", "abort", "pause", "resume", "replace", "run", "debug", "scale", "status", "verify", "history",
    "show", "where", "diff", "reproduce", "push", "pull", "export", "key", "trust", "revoke", "secret", "state",
    "logs", "audit", "witness", "backup", "restore", "kubernetes", "gc", "doctor", "controller", "version",
)  # fmt: skip


class Verbs(click.Group):
    """Finds a verb in the module ``stelae.cli.verbs.NAME``, as its ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order in which they are met."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb, or return None when there is none of that name."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"stelae.cli.verbs.{cmd_name}")
        command: click.Command = module.command
        return command


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--socket", "socket", envvar="STELAE_SOCKET", type=click.Path(path_type=Path), metavar="PATH",
    help="The controller to talk to (also STELAE_SOCKET).",
)  # fmt: skip
@click.version_option(__version__, message="stelae %(version)s")
@click.pass_context
def stelae(ctx: click.Context, socket: Path | None) -> None:
    """Build one image from one commit, deploy it, roll it back, and know what ran."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
