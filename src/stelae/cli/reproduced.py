"""Whether an image, and its disk, came out as they did before, for people."""

from __future__ import annotations

from stelae.cli.screen import Screen
from stelae.cli.words import short_commit, short_digest, span
from stelae.controller.client import Json


def shown(out: Screen, answer: Json) -> int:
    """Print what building again gave, layer by layer and part by part where it differs, and return the exit code."""
    out.result(answer)
    commit, image = short_commit(answer["commit"]), short_digest(answer["image"])
    took = span(int(answer["seconds"] * 1_000_000))
    if answer["image"] == answer["made"]:
        out.line(f"  the same image {image} again from {commit}   {took}")
    else:
        _image(out, answer, took)
    if answer["disk"] is not None:
        _disk(out, answer["disk"])
    return 0 if answer["equal"] else 1


def _image(out: Screen, answer: Json, took: str) -> None:
    commit, image = short_commit(answer["commit"]), short_digest(answer["image"])
    out.line(f"  another image from {commit}: {short_digest(answer['made'])}, it was {image}   {took}")
    if not answer["known"]:
        out.line("  the old image is not in the store any more, so its files cannot be compared")
    for layer in answer["layers"]:
        _layer(out, layer)
    for field in answer["config"]:
        out.line(f"  config     {field} differs")


def _disk(out: Screen, disk: Json) -> None:
    if disk["disk"] == disk["made"]:
        out.line(f"  the same disk {short_digest(disk['disk'])} again")
        return
    out.line(f"  another disk: {short_digest(disk['made'])}, it was {short_digest(disk['disk'])}")
    if not disk["known"]:
        out.line("  the old disk is not in the store any more, so its parts cannot be compared")
    for part in disk["parts"]:
        out.line(f"  part       {part} differs")


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
