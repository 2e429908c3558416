"""Whether an image came out as it did before, for people."""

from __future__ import annotations

from stelae.cli.screen import Screen
from stelae.cli.words import short_commit, short_digest, span
from stelae.controller.client import Json


def shown(out: Screen, answer: Json) -> int:
    """Print what building again gave, layer by layer where it differs, and return the exit code."""
    out.result(answer)
    commit, image = short_commit(answer["commit"]), short_digest(answer["image"])
    took = span(int(answer["seconds"] * 1_000_000))
    if answer["equal"]:
        out.line(f"  the same image {image} again from {commit}   {took}")
        return 0
    out.line(f"  another image from {commit}: {short_digest(answer['made'])}, it was {image}   {took}")
    if not answer["known"]:
        out.line("  the old image is not in the store any more, so its files cannot be compared")
    for layer in answer["layers"]:
        _layer(out, layer)
    for field in answer["config"]:
        out.line(f"  config     {field} differs")
    return 1


def _layer(out: Screen, layer: Json) -> None:
    names = [short_digest(layer[side]) if layer[side] else "none" for side in ("old", "new")]
    out.line(f"  layer      {layer['name']}: {names[0]} -> {names[1]}")
    for item in layer["paths"]:
        out.line(f"    {item['path']}  {', '.join(item['how'])}")
    more = layer["count"] - len(layer["paths"])
    if more:
        out.line(f"    and {more} more")
    if not layer["count"]:
        out.line("    the same files, written in another form")
