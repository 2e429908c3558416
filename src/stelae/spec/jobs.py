"""``[job.NAME]``: its form, its sense, and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stelae.domain.job import Job, When
from stelae.domain.process import Tmpfs
from stelae.spec.forms import YES, Schema, key, listed, mapped, ref, table
from stelae.spec.places import Table, table_at
from stelae.spec.problem import Path, Problem
from stelae.spec.units import parse_cores, parse_duration, parse_size

WHEN: Schema = {"title": '"before-traffic" or "on-demand"', "enum": [when.value for when in When]}

JOB = table(
    "a table",
    {
        "command": listed(
            "a list of at least one string, the program first",
            ref("argument"),
            minItems=1,
            description="The program and its arguments; no shell. It ends with status 0 when all went well.",
        ),
        "when": key("when", "Once in each deployment before its traffic, or when asked for.", default="on-demand"),
        "timeout": key("positive_duration", "How long it may take before it is ended.", default="10m"),
        "reversible": {
            **YES,
            "description": "Whether an earlier release works after it; with false, going back across it asks. "
            "Without it, false for a job before traffic and true for others.",
        },
        "memory": key("size", "The most memory it may use, its tmpfs included.", default="256MiB"),
        "cpu": key("cores", "The most cores it may use; without it there is no limit."),
        "pids": key("pids", "The most processes and threads it may have.", default=256),
        "tmpfs": mapped(
            "a table of at most 16 paths and their sizes",
            "absolute_path",
            "size",
            maxProperties=16,
            description="Writable memory file systems. Everything else is read-only.",
        ),
    },
    required=["command"],
    description="A program of the image that ends: a migration, or what a person runs.",
)


def check(whole: Table, sound: Table) -> Iterator[Problem]:
    """Yield what is wrong between the jobs and the rest of the document."""
    for name in table_at(sound, "job"):
        here: Path = ("job", name)
        if name in table_at(whole, "process"):
            yield Problem(path=here, text="expected another name than that of a process")
        if name == "run":
            yield Problem(path=here, text='expected another name than "run", which stands for a command')


def jobs(document: Mapping[str, Any]) -> tuple[Job, ...]:
    """Return the jobs of a document that was checked, in its order."""
    return tuple(_job(name, given) for name, given in document.get("job", {}).items())


def _job(name: str, given: Mapping[str, Any]) -> Job:
    words: dict[str, Any] = {"pids": int(given["pids"])} if "pids" in given else {}
    if "timeout" in given:
        words["timeout"] = parse_duration(given["timeout"])
    if "memory" in given:
        words["memory"] = parse_size(given["memory"])
    if "cpu" in given:
        words["cpu"] = parse_cores(given["cpu"])
    when = When(given.get("when", When.ON_DEMAND))
    reversible = given.get("reversible", when is not When.BEFORE_TRAFFIC)
    tmpfs = tuple(Tmpfs(path=path, size=parse_size(size)) for path, size in sorted(given.get("tmpfs", {}).items()))
    return Job(
        name=name, command=tuple(given["command"]), when=when, irreversible=not reversible, tmpfs=tmpfs, **words
    )
