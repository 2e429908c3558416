"""``stelae where``: where something runs now, or ever ran."""

from __future__ import annotations

import click

from stelae.cli.common import client, screen, verb
from stelae.cli.observed import share
from stelae.cli.screen import Screen
from stelae.cli.words import local_time, short_commit, short_digest, short_release, table
from stelae.controller.client import Json

HEADER = ("environment", "instance", "release", "commit", "from", "to", "observed", "inspected")


@click.command("where", short_help="Show where a commit, image, release or package runs, or ever ran.")
@click.argument("ref", metavar="REF")
@click.option("--ever", is_flag=True, help="Every instance that was ever started from it, with its times.")
@verb
def command(ref: str, ever: bool) -> None:
    """Show where REF runs now: a commit, an image, a release, or a package, as NAME or NAME=VERSION.

    observed is the part of its life in which somebody looked at an instance, and inspected that in which it was
    compared with its release.
    """
    out = screen()
    answer = client().get("/v1/where", ref=ref, ever=ever)
    out.result(answer)
    if answer["kind"] == "package":
        _releases(out, answer["releases"])
    lives = answer["instances"]
    if lives:
        for line in _table(lives):
            out.line("  " + line)
    else:
        out.line(f"  nothing of it {'ever ran' if ever else 'runs now'}")
        if not ever:
            out.line(f"  what ran once: stelae where {ref} --ever")
    if answer["unknown"]:
        names = ", ".join(short_digest(image) for image in answer["unknown"][:5])
        count = len(answer["unknown"])
        what = "an image that is" if count == 1 else f"{count} images that are"
        out.line(f"  not looked into: {what} not here any more: {names}", "yellow")


def _releases(out: Screen, releases: list[Json]) -> None:
    rows = [
        (
            item["environment"], short_release(item["release"]), short_digest(item["image"]),
            " ".join(item["versions"]), "runs" if item["stable"] else "-", " ".join(item["deployments"][-3:]),
        )
        for item in releases
    ]  # fmt: skip
    if rows:
        for line in table(("environment", "release", "image", "version", "now", "deployments"), rows):
            out.line("  " + line)
    else:
        out.line("  no release has it")


def _table(lives: list[Json]) -> list[str]:
    """The lives; on which node each was, too, where a cluster launched one of them."""
    rows = [_cells(life) for life in lives]
    if not any(life["node"] for life in lives):
        return table(HEADER, rows)
    header = (*HEADER[:2], "node", *HEADER[2:])
    return table(header, [(*row[:2], life["node"] or "-", *row[2:]) for life, row in zip(lives, rows, strict=True)])


def _cells(life: Json) -> tuple[str, ...]:
    over = life["ended_at"] if life["ended_at"] is not None else life["removed_at"]
    return (
        life["environment"], life["instance"], short_release(life["release"]), short_commit(life["commit"]),
        local_time(life["launched_at"]),
        "did not start" if life["failed"] else "runs" if over is None else local_time(over),
        share(life["observed"]), share(life["inspected"]),
    )  # fmt: skip
