"""``stelae render``: what a release is on a cluster, as YAML."""

from __future__ import annotations

from pathlib import Path

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb
from stelae.cli.words import short_digest, short_release
from stelae.controller.client import Json
from stelae.domain.errors import InvalidInput


@click.command("render", short_help="Print the objects of a cluster as YAML, and send nothing.")
@click.argument("env", metavar="ENV")
@click.option("--ref", default="", metavar="REF", help="Of the image that was built from this commit.")
@click.option("--image", default="", metavar="DIGEST", help="Of an image.")
@click.option("--release", default="", metavar="RELEASE", help="Of a release that was deployed here before.")
@app_option
@verb
def command(env: str, ref: str, image: str, release: str, app: str) -> None:
    """Print what the release that serves in ENV is on its cluster, when it alone serves: for a repository that
    Argo CD or Flux applies, or to read.

    Nothing is sent and nothing is recorded. Secrets are not printed: the first lines name the one that is needed.
    """
    if sum(map(bool, (ref, image, release))) > 1:
        raise InvalidInput("--ref, --image and --release exclude each other")
    from stelae.cli import manifest

    out = screen()
    query = {"image": image, "release": release, **(_commit(ref) if ref else {})}
    answer = client().get("/v1/render", environment=environment_name(env, app), **query)
    out.result(answer)
    for line in manifest.lines(answer["objects"], _head(answer)):
        out.line(line)


def _commit(ref: str) -> Json:
    from stelae.build import client_git

    found = client_git.describe(Path.cwd(), ref)
    return {"commit": found.commit, "path": found.path}


def _head(answer: Json) -> list[str]:
    release, image = short_release(answer["release"]), short_digest(answer["image"])
    found = [f"{answer['environment']}: release {release}, image {image}"]
    if answer["secret"]:
        keys = ", ".join(f"{name} (version {version})" for name, version in sorted(answer["secrets"].items()))
        found.append(f"It needs the Secret {answer['secret']}, with {keys}.")
    return found
