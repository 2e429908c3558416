"""``stelae key``: the keys whose signatures count."""

from __future__ import annotations

from pathlib import Path

import click

from stelae.cli.common import client, installation_from, screen, verb
from stelae.cli.pem import read_pem
from stelae.cli.words import local_time
from stelae.controller.client import Json
from stelae.domain.errors import InvalidInput


@click.group("key", no_args_is_help=False, short_help="The keys that images are signed and checked with.")
def command() -> None:
    """The keys that images are signed and checked with. The first is made when the first image is built.

    Revoke one with `stelae revoke KEY`.
    """


@command.command("list", short_help="List the keys.")
@verb
def list_command() -> None:
    """List the keys whose signatures count, and those that were revoked."""
    out = screen()
    answer = client().get("/v1/keys")
    out.result(answer)
    if not answer["keys"]:
        out.line("  no keys yet; the first is made when the first image is built")
    for item in answer["keys"]:
        revoked = item["revoked"]
        state = "signs here" if item["signs"] else "checks only" if item["counts"] else "verifies only"
        if revoked:
            state = f"revoked by {revoked['by']} {local_time(revoked['at'])}: {revoked['reason']}"
        out.line(f"  {item['key'][:8]}  {state}  (by {item['added_by']} {local_time(item['added_at'])})")


@command.command("show", short_help="Print a public key.")
@click.argument("key", metavar="[KEY]", default="")
@verb
def show_command(key: str) -> None:
    """Print the public half of KEY (default: the one that signs here) as PEM, for other tools."""
    out = screen()
    found = _one(client().get("/v1/keys")["keys"], key)
    out.result(found)
    for line in found["pem"].splitlines():
        out.line(line)


@command.command("import", short_help="Sign with a key of your own, or trust another's.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@verb
def import_command(file: Path) -> None:
    """Take the key in FILE (PEM, ECDSA on the curve P-256): images are signed with a private key from now on; the
    signatures of a public key count from now on."""
    pem = read_pem(file)
    out = screen()
    answer = client().post("/v1/keys", {"pem": pem})
    out.result(answer)
    out.line(f"  key {answer['key'][:8]} counts from now on")


@command.command("recovery", short_help="Make the key that opens the private keys in backups.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@verb
def recovery_command(file: Path) -> None:
    """Make a recovery key: the private keys in each backup from now on are sealed to it. Its private half is written
    to FILE, and kept nowhere else: take it off this machine (a password safe, paper) and delete it here. Needs root.

    One that was made before opens the backups that were made with it.
    """
    from stelae.cli.new_file import new_file
    from stelae.cli.recovery import as_root
    from stelae.controller.recovery.sealed import make_recovery_key, public_of

    out, installation = screen(), installation_from()
    as_root(installation.state)

    def give(private: str) -> None:
        with new_file(file, mode=0o600) as stream:
            stream.write(f"{private}\n".encode())

    private = make_recovery_key(installation.keys, give)
    out.result({"file": str(file), "public": public_of(private)})
    out.line(f"  {file} opens the private keys in backups from now on")
    out.line("  take it off this machine: with it and a backup all secrets can be read; without it none", "yellow")


def _one(keys: list[Json], name: str) -> Json:
    found = [item for item in keys if (item["key"].startswith(name) if name else item["signs"])]
    if len(found) != 1:
        what = "no key signs here yet" if not name else f"{len(found)} keys begin with {name!r}"
        raise InvalidInput(what, hint="stelae key list shows them")
    return found[0]
