"""What a plan says of the way from one image to another: commits, packages, files, and the memory that it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stelae.cli.words import short_commit, size
from stelae.controller.client import Json

Row = tuple[str, str]

FEW = 6
"""So many packages are told in the answer; more are counted."""


def commits(folder: Path, plan: Json) -> list[Json] | None:
    """Return the commits on the way, newest first; None where the repository of *folder* cannot tell them."""
    from stelae.build import client_log

    old, new = plan["from"], plan["to"]
    if old is None or not old["commit"] or not new["commit"] or old["commit"] == new["commit"]:
        return None
    found = client_log.between(folder, old["commit"], new["commit"])
    if not found:
        found = client_log.between(folder, new["commit"], old["commit"])  # back to an older one
        if not found:
            return None
        return [{"commit": item.commit, "subject": item.subject, "change": "removed"} for item in found]
    return [{"commit": item.commit, "subject": item.subject, "change": "added"} for item in found]


def rows(plan: Json) -> Iterator[Row]:
    """Yield the rows of *plan*, those that say something."""
    old, new, between = plan["from"], plan["to"], plan.get("commits")
    if between:
        back = " back" if between[0]["change"] == "removed" else ""
        shown = between if len(between) == 1 else (between[-1], between[0])  # the oldest first
        told = " … ".join(f'"{item["subject"]}"' for item in shown)
        yield "commits", f"{len(between)}{back}   {told}"
    else:
        ends = [f'{short_commit(end["commit"])} "{end["subject"]}"' for end in (old, new) if end and end["commit"]]
        same = old is not None and old["commit"] == new["commit"]
        yield "commit", " -> ".join(ends[-1:] if same else ends)
    if plan["changes"]:
        yield "packages", _packages(plan["changes"]["packages"])
        yield "files", _files(plan["changes"])
    yield "memory", _memory(plan["memory"])


def _packages(changed: list[Json]) -> str:
    told = [_package(item) for item in changed[:FEW]]
    more = len(changed) - FEW
    return ", ".join([*told, f"and {more} more (stelae diff)"] if more > 0 else told)


def _package(item: Json) -> str:
    if not item["old"]:
        return f"{item['name']} {item['new']} added"
    if not item["new"]:
        return f"{item['name']} {item['old']} removed"
    return f"{item['name']} {item['old']} -> {item['new']}"


def _files(changes: Json) -> str:
    counts = [f"{changes['files'][how]} {how}" for how in ("added", "changed", "removed") if changes["files"][how]]
    if not counts:
        return ""
    names = ", ".join(item["path"] for item in changes["first"][:2])
    more = ", …" if sum(changes["files"].values()) > 2 else ""
    sizes = changes["size"]
    return f"{', '.join(counts)} ({names}{more}); image {size(sizes['old'])} -> {size(sizes['new'])}"


def _memory(memory: Json) -> str:
    """Say what does not fit; what fits is no news."""
    if memory["machine"] is None or memory["needed"] + memory["others"] <= memory["machine"]:
        return ""
    others = f", {size(memory['others'])} of other environments" if memory["others"] else ""
    return f"does NOT fit: {size(memory['needed'])} on the way{others}; this machine has {size(memory['machine'])}"
