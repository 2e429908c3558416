"""``stelae backup``: all that an empty machine needs to serve again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stelae.cli.common import installation_from, screen, verb

if TYPE_CHECKING:
    from stelae.cli.screen import Screen
    from stelae.controller.recovery.backup import Made


@click.command("backup", short_help="Back up all that an empty machine needs to serve again.")
@click.argument("target", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--with-keys", is_flag=True, help="With the private keys as they are: keep the file as one keeps a key."
)
@click.option("--with-inputs", is_flag=True, help="With what builds took from elsewhere, to build again offline.")
@click.option("--keep", type=click.IntRange(1), metavar="N", help="Of the backups in the folder keep the N newest.")
@verb
def command(target: Path, with_keys: bool, with_inputs: bool, keep: int | None) -> int:
    """Back up the record, the images that an environment can need or return to, what is signed of them, the secrets
    (encrypted, as they are kept) and the private keys (sealed to the recovery key, see stelae key recovery).

    To a new FILE (a tar that only you can read; - is standard output), or into a FOLDER that is there: backups in it
    share what is the same, so one a night is small. The controller works on meanwhile, and need not run at all. Needs
    root. Bring it back with stelae restore.

    The exit code is 1 for a backup that was made without an image that should be in it.
    """
    from stelae.cli.new_file import STDOUT, new_file
    from stelae.cli.recovery import as_root, who
    from stelae.controller.recovery.backup import Options, back_up, back_up_into, thin_out
    from stelae.domain.errors import InvalidInput
    from stelae.system.clock import now

    out, installation = screen(), installation_from()
    as_root(installation.state)
    if keep is not None and not target.is_dir():
        raise InvalidInput("--keep is for a folder of backups", where=str(target))
    options = Options(with_keys=with_keys, with_inputs=with_inputs, **who())
    removed = 0
    if target.is_dir():
        made = back_up_into(installation, options, now, target)
        removed = thin_out(target, keep) if keep is not None else 0
    else:
        with new_file(target, mode=0o600) as file:
            made = back_up(installation, options, now, file)
    if target == STDOUT:
        _warn(out, made)
    else:
        _tell(out, made, target, removed)
    return 1 if made.manifest.lacking else 0


def _tell(out: Screen, made: Made, target: Path, removed: int) -> None:
    manifest = made.manifest
    out.result({
        "target": str(target), "name": manifest.name, "size": manifest.record.size, "root": manifest.record.root,
        "images": [image.digest for image in manifest.images], "lacking": list(manifest.lacking),
        "secrets": len(manifest.secrets), "foreign_secrets": made.foreign_secrets, "keys": manifest.key_form.value,
        "bytes": manifest.bytes, "written": made.written, "removed": removed,
    })  # fmt: skip
    what = f"{manifest.record.size} events, {len(manifest.images)} images, {len(manifest.secrets)} secrets"
    out.line(f"  {what}: {manifest.bytes / 1e6:.1f} MB, of which {made.written / 1e6:.1f} MB were written")
    if removed:
        out.line(f"  {removed} older backups removed")
    _warn(out, made)


def _warn(out: Screen, made: Made) -> None:
    """Say what would be missed on the day on which the backup is needed."""
    from stelae.controller.recovery.manifest import KeyForm

    manifest = made.manifest
    for image in manifest.lacking:
        out.aside(f"  not in it, because it is not in the store: {image}, which an environment can return to")
    if manifest.key_form is KeyForm.NONE:
        out.aside("  the private keys are not in it: neither the log nor the secrets can go on from it alone")
        out.aside("  make a recovery key that they are sealed to: stelae key recovery FILE")
    if manifest.key_form is KeyForm.PLAIN:
        out.aside("  the private keys are in it as they are: who reads it can read every secret and sign as this log")
    if made.foreign_secrets:
        out.aside(f"  {made.foreign_secrets} secrets are encrypted with a credential of the service: keep that, too")
