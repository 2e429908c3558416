"""``stelae secret``: values that the instances of an environment read, and that nobody is shown again."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb
from stelae.cli.small_files import LARGEST
from stelae.cli.words import local_time, short_release
from stelae.controller.client import Json
from stelae.domain.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,63}")


@click.group("secret", no_args_is_help=False, short_help="The secrets of an environment: set, list, revoke.")
def command() -> None:
    """The secrets of an environment. stelae.toml names them (`secrets` in [env.NAME]), and instances read them at
    /run/secrets/NAME. Each value is a version; a release has certain versions, whenever it comes back.
    """


@command.command("set", short_help="Give a secret a value.")
@click.argument("env", metavar="ENV")
@click.argument("name", metavar="NAME")
@click.argument("more", metavar="", nargs=-1)
@click.option("--file", "file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Read it here.")
@app_option
@verb
def set_command(env: str, name: str, more: tuple[str, ...], file: Path | None, app: str) -> None:
    """Give the secret NAME of ENV a value: what comes on standard input, byte for byte, or is in FILE; at a terminal
    it is asked for, and not shown.

    What runs keeps the version that it has. The next deployment takes the new one.
    """
    if more or "=" in name:
        raise InvalidInput(
            "a value is not taken from the command line: every user of this machine could read it there, and the "
            "shell keeps it in its history",
            hint="give it on standard input, with --file, or type it when it is asked for",
        )
    if not _NAME.fullmatch(name):  # and it is not repeated: it may be the value
        raise InvalidInput("that is not the name of a secret", hint="for example DATABASE_PASSWORD or tls.key")
    environment = environment_name(env, app)
    value = _value(name, file)
    import base64

    body = {"environment": environment, "name": name, "value": base64.b64encode(value).decode("ascii")}
    out = screen()
    answer = client().post("/v1/secrets", body, again=True)
    out.result(answer)
    state = "version" if answer["new"] else "unchanged: that is its version"
    out.line(f"  {name}   {state} {answer['version']} in {environment}")
    if value.endswith(b"\n") and value.count(b"\n") == 1:
        out.line("  it ends with a line break, which belongs to it; printf '%s' writes none", "yellow")
    out.line(_next(answer, env))


def _next(answer: Json, env: str) -> str:
    """Say what makes an instance get it."""
    if not answer["listed"]:
        _, _, name = answer["environment"].partition("/")
        return f'  next: put it in [env.{name}]: secrets = ["{answer["name"]}"], then stelae env apply'
    if not answer["image"]:
        return f"  next: stelae deploy {env}"
    return f"  next: stelae deploy {env} --image current   (the image that serves, nothing is built)"


def _value(name: str, file: Path | None) -> bytes:
    """Return the value, at most one byte longer than the longest; raises InvalidInput that shows nothing of it."""
    try:
        if file is not None:
            with file.open("rb") as opened:
                value = opened.read(LARGEST + 1)
        elif sys.stdin is None:
            value = b""
        else:
            value = _typed(name) if sys.stdin.isatty() else sys.stdin.buffer.read(LARGEST + 1)
    except OSError as error:
        where = str(file) if file is not None else "standard input"
        raise InvalidInput(f"cannot be read: {error.strerror}", where=where) from error
    if not value:
        raise InvalidInput(f"no value for {name} was given", hint="give it on standard input, or with --file")
    if len(value) > LARGEST:
        raise InvalidInput(f"the value of {name} is larger than {LARGEST // 1024} KiB")
    return value


def _typed(name: str) -> bytes:
    """Ask for the value at the terminal, which does not show it."""
    import getpass
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(f"{name}: ", stream=sys.stderr).encode()
    except (EOFError, getpass.GetPassWarning, UnicodeEncodeError):
        hint = "give it on standard input, or with --file"
        raise InvalidInput("the value cannot be asked for here", hint=hint) from None


@command.command("list", short_help="List the secrets of an environment and their versions.")
@click.argument("env", metavar="ENV")
@app_option
@verb
def list_command(env: str, app: str) -> None:
    """List the secrets of ENV: their versions, who set them and when, and which releases have them. Values are never
    shown."""
    out = screen()
    answer = client().get("/v1/secrets", environment=environment_name(env, app))
    out.result(answer)
    if not answer["secrets"]:
        out.line(f"  {answer['environment']} has no secrets")
    for item in answer["secrets"]:
        kind = "file and variable" if item["variable"] else "file" if item["listed"] else "not in stelae.toml"
        out.line(f"  {item['name']}   {kind}")
        if not item["versions"]:
            out.line(f"    no value yet: stelae secret set {env} {item['name']}", "yellow")
        for version in item["versions"]:
            out.line(f"    {_line(version)}")


def _line(version: Json) -> str:
    text = f"{version['version']}   by {version['by']} {local_time(version['at'])}"
    names = [short_release(name) for name in version["releases"]]
    if names:
        text += "   of " + ", ".join(names[-5:]) + (", in use" if version["held"] else "")
    back = version["revoked"]
    if back:
        text += f"   revoked by {back['by']} {local_time(back['at'])}: {back['reason']}"
        text += " (removed)" if version["wiped"] else " (kept for what runs with it)"
    return text


@command.command("revoke", short_help="Take back a version of a secret.")
@click.argument("env", metavar="ENV")
@click.argument("name", metavar="NAME")
@click.argument("version", metavar="VERSION", type=click.IntRange(min=1))
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the record.")
@app_option
@verb
def revoke_command(env: str, name: str, version: int, reason: str, app: str) -> None:
    """Take back a version of a secret of ENV: no release that has it is deployed or returned to any more.

    What runs with it goes on running until another release is deployed; then its value is removed. It cannot be
    undone, and only whoever gave the value out can make it worth nothing: change it there too.
    """
    out = screen()
    body = {"environment": environment_name(env, app), "name": name, "version": version, "reason": reason}
    answer = client().post("/v1/secret-revocations", body)
    out.result(answer)
    out.line(f"  revoked: version {version} of {name} in {answer['environment']}")
    if answer["wiped"]:
        out.line("  its value was removed")
    else:
        names = ", ".join(short_release(release) for release in answer["releases"])
        out.line(f"  {names} runs with it still; its value is removed when nothing does", "yellow")
        out.line(f"  next: stelae secret set {env} {name}, then stelae deploy {env} --image current")
