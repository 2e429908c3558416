"""``stelae verify``: is every running instance what its release says?"""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb
from stelae.cli.screen import Screen
from stelae.cli.words import age, short_release
from stelae.controller.client import Json
from stelae.system.clock import now


@click.command("verify", short_help="Is every running instance what its release says?")
@click.argument("env", metavar="[ENV]", default="")
@app_option
@verb
def command(env: str, app: str) -> int:
    """Inspect every running instance of ENV (of all environments, without it) now, byte by byte, and show what is not
    what its release says, with the evidence. What is found is recorded, and answered as the environment says.

    The exit code is 0 when nothing differs, and 1 when something does, or could not be looked at.
    """
    out, controller = screen(), client()
    answer = controller.post("/v1/inspections", {"environment": environment_name(env, app) if env else ""})
    rows = [row for row in answer["environments"] if env or not app or row["environment"].startswith(f"{app}/")]
    out.result({"environments": rows})
    if not rows:
        out.line("  nothing runs")
    clean = [_shown(out, row) for row in rows]
    return 0 if all(clean) else 1


def _shown(out: Screen, row: Json) -> bool:
    """Print what was found in an environment; true when nothing differs and all was looked at."""
    name, running = row["environment"], row["running"]
    clean = [item for item in running if item["inspected"] and not item["findings"]]
    out.line(f"  {name}   {len(clean)} of {len(running)} are what their release says")
    for item in running:
        if item["findings"]:
            out.line(f"    {item['id']}  {item['process'] or 'run'} of {short_release(item['release'])} drifted")
            _findings(out, item["findings"])
        if not item["inspected"]:
            out.line(f"    {item['id']}  not looked at: {item['missed']}")
    if row["missed"]:
        out.line(f"    its traffic was not looked at: {row['missed']}")
    if row["findings"]:
        out.line("    of the whole environment")
        _findings(out, row["findings"])
    found = any(item["findings"] for item in running) or bool(row["findings"])
    if found:
        out.line(f"    {_answer(row)}")
    return len(clean) == len(running) and not row["findings"] and not row["missed"]


def _findings(out: Screen, findings: list[Json]) -> None:
    for item in findings:
        out.line(f"      {item['drift']}: {item['what']}   for {age(item['since'], now())}")
        for line in item["evidence"]:
            out.line(f"        {line}")


def _answer(row: Json) -> str:
    """Return what happens now, and what a person can do."""
    name = row["environment"].partition("/")[2]
    by_hand = f"stelae replace {name} --drifted --reason …"
    if row["storm"] is not None:
        return f"a drift storm: nothing is replaced until you say {by_hand}"
    if row["policy"] == "report":
        return f"it is only reported here; to replace it: {by_hand}"
    return "what is an instance's is replaced: see stelae status" if row["instances"] else "see stelae history"
