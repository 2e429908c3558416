"""``stelae witness``: watch that a log only grows, for others who rely on it; no controller is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from stelae.cli.common import screen, verb
from stelae.cli.words import local_time
from stelae.domain.units import SECOND

ADDRESS = "127.0.0.1:7390"

_F = TypeVar("_F", bound=Callable[..., Any])


@click.group("witness", no_args_is_help=False, short_help="Watch that the logs of others only grow.")
def command() -> None:
    """A witness (C2SP tlog-witness) remembers how far it has seen the logs that it trusts, and cosigns what goes on
    from there. It belongs on another machine, best of all with somebody else.
    """


def _folder(function: _F) -> _F:
    return click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))(function)


@command.command("init", short_help="Make a witness in a folder, and print its public key.")
@_folder
@click.argument("name", metavar="NAME")
@verb
def init_command(folder: Path, name: str) -> None:
    """Make a witness called NAME (such as witness.example.com/ana) in FOLDER, and print its public key, which goes
    into the policies of those who rely on it.

    FOLDER has its private key and its memory. Never put its memory back to an older state: a witness that forgot
    would cosign another history. Make a new one then, with a new name.
    """
    from stelae.witness.witness import init

    out = screen()
    verifier = init(folder, name)
    out.result({"name": verifier.name, "key": verifier.vkey})
    out.line(verifier.vkey)


@command.command("trust", short_help="Cosign a log from now on.")
@_folder
@click.argument("key", metavar="LOG-VKEY")
@verb
def trust_command(folder: Path, key: str) -> None:
    """Cosign what the log with this public key (there: stelae audit key) publishes from now on. The first checkpoint
    that comes is believed; every later one has to go on from it."""
    from stelae.ledger.note import parse_vkey
    from stelae.witness.witness import Witness

    out, witness, log = screen(), Witness(folder), parse_vkey(key.strip())
    new = witness.trust(log)
    out.result({"origin": log.name, "key": log.vkey, "new": new})
    out.line(f"  {log.name} is cosigned from now on" if new else f"  {log.name} was known already")


@command.command("show", short_help="Show how far each log was seen, and what was refused.")
@_folder
@verb
def show_command(folder: Path) -> int:
    """Show the witness's key, how far it has seen each log, and which signed checkpoints it refused.

    Exit code 1 means that a log signed two histories. One that has fewer leaves than it had is refused, too, but
    that proves nothing to others.
    """
    from stelae.witness.witness import FORKED, Witness

    out, witness = screen(), Witness(folder)
    logs, refused = witness.known()
    out.result(
        {
            "name": witness.verifier.name, "key": witness.verifier.vkey,
            "logs": [{"origin": seen.log.name, "size": seen.size, "at": seen.at * SECOND} for seen in logs],
            "refused": [
                {
                    "origin": one.origin, "size": one.size, "why": one.why, "seen": one.seen, "at": one.at * SECOND,
                    "checkpoint": one.checkpoint.decode(),
                }
                for one in refused
            ],
        }
    )  # fmt: skip
    out.line(f"  {witness.verifier.vkey}")
    for seen in logs:
        when = local_time(seen.at * SECOND) if seen.checkpoint else "never"
        out.line(f"  {seen.log.name}  {seen.size} leaves, cosigned {when}")
    for one in refused:
        out.line(f"  refused {local_time(one.at * SECOND)}: {one.origin} with {one.size} leaves: {one.why}")
    forked = sorted({one.origin for one in refused if one.why == FORKED})
    if forked:
        out.line(f"  {', '.join(forked)} signed two histories: --json has the checkpoints that prove it", "red")
    return 1 if forked else 0


@command.command("run", short_help="Answer whoever asks for cosignatures, until SIGTERM.")
@_folder
@click.option("--listen", default=ADDRESS, show_default=True, metavar="ADDR", help="HOST:PORT; port 0 takes any.")
@verb
def run_command(folder: Path, listen: str) -> None:
    """Answer POST /add-checkpoint and GET /HASH/checkpoint over HTTP, until SIGTERM.

    Anybody may ask: a witness tells nobody a secret, and what is not signed by the key of a log that it trusts
    changes nothing. For HTTPS, put any proxy in front.
    """
    import anyio

    from stelae.system.notify import take_notifier
    from stelae.witness.server import bound, serve
    from stelae.witness.witness import Witness

    out, notify = screen(), take_notifier()
    witness = Witness(folder)
    with bound(listen) as listener:
        host, port = listener.getsockname()[:2]
        shown = f"http://{f'[{host}]' if ':' in host else host}:{port}"

        def ready() -> None:
            out.result({"name": witness.verifier.name, "key": witness.verifier.vkey, "address": shown})
            out.line(f"  {witness.verifier.name} answers at {shown}")
            notify()

        anyio.run(serve, witness, listener, ready)
    witness.close()
