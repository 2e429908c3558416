"""``stelae show``: what an id names, and where it comes from."""

from __future__ import annotations

import json

import click

from stelae.cli.common import client, reference, screen, verb
from stelae.cli.screen import Screen
from stelae.cli.words import local_time, percent, short_commit, size, span
from stelae.controller.client import Json

_WIDTH = 100
"""Characters of a line of packages."""


@click.command("show", short_help="Show a commit, image, disk, release, deployment, instance, run or person.")
@click.argument("ref", metavar="REF")
@click.option(
    "--sbom", "document", flag_value="sbom", help="Print an image's or a disk's list of what is inside (CycloneDX)."
)
@click.option("--provenance", "document", flag_value="provenance", help="Print how an image was built (SLSA).")
@verb
def command(ref: str, document: str | None) -> None:
    """Show what REF (a unique prefix of an id, or an environment: what it runs now) names: how it was built, where it
    ran, who deployed it. Of an instance, also of one that is gone, its life; of a person what they asked for.

    What is said of an image is verified before it is shown.
    """
    out, controller = screen(), client()
    ref = reference(ref)
    if document:
        _write(out, controller.get("/v1/documents", ref=ref, kind=document)["document"])
        return
    answer = controller.get("/v1/show", ref=ref)
    named = answer[answer["kind"]] if answer["kind"] in ("image", "disk") else ""
    proof = controller.get("/v1/proofs", ref=named) if named else None
    out.result(answer if proof is None else {**answer, "proof": proof})
    out.line(f"  {answer['kind']} {answer.get(answer['kind'], answer.get('id', ''))}".rstrip())
    if answer["kind"] == "person":
        _person(out, answer)
        return
    if proof is not None:
        _proof(out, proof)
    left_out = {"kind", "id", answer["kind"], *(["node"] if not answer.get("node") else [])}
    _fields(out, {k: v for k, v in answer.items() if k not in left_out}, "    ")
    if proof is not None:
        _inside(out, proof["packages"])


def _person(out: Screen, person: Json) -> None:
    """Say what a person did: how much of what, and the last of it."""
    out.line(
        f"    {person['events']} events from {local_time(person['first_at'])} to {local_time(person['last_at'])}"
    )
    out.line("    " + ", ".join(f"{count} {kind}" for kind, count in person["counts"].items()))
    for name in ("asked", "approved", "refused"):
        for event in person[name]:
            out.line(
                f"    {name.ljust(8)}  {local_time(event['at'])}  {event['environment'] or '-'}  {event['text']}"
            )
    out.line(f"    all of it: stelae history --by {person['person']} --all")


def _write(out: Screen, document: Json) -> None:
    if out.as_json:
        out.result(document)
    for line in json.dumps(document, indent=2).splitlines():
        out.line(line)


def _proof(out: Screen, proof: Json) -> None:
    """Say what was verified, and in a line how the image was built and what is inside."""
    revoked = proof["revoked"]
    if revoked:
        out.line(f"    REVOKED by {revoked['by']} {local_time(revoked['at'])}: {revoked['reason']}", "red")
    built = proof["built"]
    words = {
        "signature": "",
        "provenance": f", commit {short_commit(built['commit'])}, {built['inputs']} inputs, {built['finished']}"
        if built
        else "",
        "sbom": ", " + " · ".join(f"{count} {kind}" for kind, count in proof["counts"].items()),
    }
    for name, more in words.items():
        found = proof[name]
        said = f"ok, by {found['key'][:8]}{more}" if found["ok"] else f"NOT VERIFIED: {found['why']}"
        out.line(f"    {name.ljust(10)}  {said}".rstrip(", "), "" if found["ok"] else "red")


def _inside(out: Screen, packages: list[Json]) -> None:
    """Print the packages of each kind, with their versions, side by side: an image has hundreds."""
    for kind in sorted({item["kind"] for item in packages}):
        found = [f"{item['name']} {item['version']}" for item in packages if item["kind"] == kind]
        line = ""
        label = f"    {kind.ljust(10)}  "
        for number, text in enumerate(found):
            more = text + ("," if number < len(found) - 1 else "")
            if line and len(line) + len(more) >= _WIDTH:
                out.line(label + line)
                label, line = " " * len(label), ""
            line = f"{line} {more}".strip()
        out.line(label + line)


def _fields(out: Screen, values: dict[str, object], indent: str) -> None:
    """Print *values* one a line; an object or a list of objects is indented below its name."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        if isinstance(value, dict) and value:
            out.line(f"{indent}{name}")
            _fields(out, value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                out.line(f"{indent}{name}")
                _fields(out, item, indent + "  ")
        elif name in ("lines", "evidence") and isinstance(value, list) and value:
            out.line(f"{indent}{name}")
            for line in value:
                out.line(f"{indent}  | {line}".rstrip())
        else:
            out.line(f"{indent}{name.ljust(width)}  {_text(name, value)}".rstrip())


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and (name.endswith("_at") or name in ("at", "since", "until")):
        return local_time(value)
    if isinstance(value, int) and name == "limit":
        return span(value)
    if isinstance(value, int) and name == "share":
        return percent(value)
    if isinstance(value, int) and name == "size":
        return size(value)
    if isinstance(value, list):
        return " ".join(str(item) for item in value) or "-"
    return "-" if value is None or value in ("", {}) else str(value)
