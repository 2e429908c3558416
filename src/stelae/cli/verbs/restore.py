"""``stelae restore``: bring an installation back on an empty machine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from stelae.cli.common import installation_from, screen, verb

_PATH = click.Path(path_type=Path)


@click.command("restore", short_help="Bring an installation back on an empty machine.")
@click.argument("source", metavar="FILE|FOLDER", type=_PATH)
@click.option(
    "--recovery-key", type=_PATH, metavar="FILE", help="The recovery key that the private keys are sealed to."
)
@click.option("--without-keys", is_flag=True, help="Go on without the private keys: a new log begins.")
@click.option("--key", default="", metavar="VKEY", help="The log's key as you have kept it: another log is refused.")
@click.option(
    "--newest", type=_PATH, metavar="FILE", help="The newest checkpoint that you have: an older backup is refused."
)
@click.option("--check", is_flag=True, help="Only check that it could be restored here.")
@click.option("--state", type=_PATH, metavar="DIR", help="What must survive (STELAE_STATE).")
@click.option("--run", type=_PATH, metavar="DIR", help="What a power-off may take (STELAE_RUN).")
@click.option("--name", metavar="NAME", help="The installation's name (STELAE_NAME).")
@verb
def command(
    source: Path, recovery_key: Path | None, without_keys: bool, key: str, newest: Path | None, check: bool,
    state: Path | None, run: Path | None, name: str | None,
) -> None:  # fmt: skip
    """Bring the installation of a backup back: FILE as stelae backup wrote it, or the newest (or FOLDER/backups/NAME)
    of a FOLDER. Everything in it is checked before anything is put in place; only an empty machine is taken.

    Start the controller then (stelae up, or the service): every environment serves its recorded release again. What
    was under way when the backup was made has ended, and nothing of it is done a second time. Needs root.
    """
    from stelae.cli.recovery import as_root, content, line, who
    from stelae.controller.recovery.restore import Given, restore
    from stelae.ledger.note import parse_vkey
    from stelae.system.clock import now

    out, installation = screen(), installation_from(name, state, run)
    as_root(installation.state)
    given = Given(
        source=source, recovery_key=line(recovery_key) if recovery_key else "",
        log_key=parse_vkey(key.strip()) if key else None, newest=content(newest) if newest else b"",
        without_keys=without_keys, **who(),
    )  # fmt: skip
    done = restore(installation, given, now, only_check=check)
    manifest = done.manifest
    record = manifest.record
    out.result({
        "checked_only": check, "size": record.size, "root": record.root, "made_at": manifest.made_at,
        "host": manifest.host, "installation": manifest.installation, "environments": list(done.environments),
        "ended": done.ended, "lacking": list(done.lacking), "lacking_secrets": list(done.lacking_secrets),
        "continues": done.continues, "state": str(installation.state),
    })  # fmt: skip
    when = f"{datetime.fromtimestamp(manifest.made_at / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
    said = "could be restored" if check else "restored"
    out.line(f"  {said}: {record.size} events, of {manifest.host} at {when}; {len(manifest.images)} images")
    for text in (*done.lacking, *done.lacking_secrets):
        out.line(f"  not in the backup: {text}", "yellow")
    if done.ended:
        out.line(f"  {done.ended} deployments and runs that were under way were ended; stelae history tells which")
    if not done.continues:
        out.line("  a new log begins, and every secret has to be set again", "yellow")
    elif newest is None and not check:
        out.line("  what was recorded after the backup is lost; a witness that saw more of this log will refuse it")
    if not check:
        out.line("  start it: stelae up, or systemctl start stelae")
