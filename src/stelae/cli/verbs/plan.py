"""``stelae plan``: what a deployment or a rollback would change, without doing or recording anything."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from stelae.cli import change_rows
from stelae.cli.common import SPEC, app_option, client, environment_name, screen, verb
from stelae.cli.screen import Screen
from stelae.cli.serving import image_named
from stelae.cli.verbs.deploy import STRATEGIES
from stelae.cli.words import age, percent, platform, secret_change, short_digest, short_release, span
from stelae.controller.client import Json
from stelae.domain.errors import InvalidInput
from stelae.system.clock import now


@click.command("plan", short_help="Show what a deployment or a rollback would change.")
@click.argument("env", metavar="ENV")
@click.option(
    "--ref", default="", metavar="REF", help="Of the image that was built from this commit (default: HEAD)."
)
@click.option("--image", default="", metavar="DIGEST", help="Of an image, or of the `current` one.")
@click.option("--release", default="", metavar="RELEASE", help="Of a release that was deployed here before.")
@click.option("--strategy", type=click.Choice(STRATEGIES), help="Another strategy than the environment's.")
@click.option("--supersede", is_flag=True, help="Replace the deployment that holds the environment.")
@click.option("--rollback", is_flag=True, help="Plan a rollback, to the release before or the one of --to.")
@click.option("--to", default="", metavar="RELEASE", help="The release to go back to.")
@click.option(
    "-f", "--file", "file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help=f"Show also what applying this {SPEC} would change (default: that here, if it is of the app).",
)  # fmt: skip
@app_option
@verb
def command(
    env: str, ref: str, image: str, release: str, strategy: str | None, supersede: bool, rollback: bool, to: str,
    file: Path | None, app: str,
) -> int:  # fmt: skip
    """Show what deploying to ENV would change now: release, commit, settings, instances, and each step on the way.

    Nothing is done and nothing is recorded. The plan has a number: given to deploy or rollback with --plan, it makes
    them do what was shown or, when something came in between, nothing (exit code 4). The exit code is the one that
    the deployment would be refused with now, else 0.
    """
    if sum(map(bool, (ref, image, release, rollback))) > 1 or (to and not rollback):
        raise InvalidInput("--ref, --image, --release and --rollback exclude each other; --to is for --rollback")
    environment = environment_name(env, app)
    source = {} if image or release or rollback else _commit(ref or "HEAD")
    image = image_named(client(), environment, image)
    request = {
        "environment": environment, "image": image, "release": release or to, "strategy": strategy or "",
        "supersede": supersede, "rollback": rollback, "spec": _spec(environment, file), **source,
    }  # fmt: skip
    out = screen()
    answer = client().post("/v1/plans", request)
    answer["commits"] = change_rows.commits(Path.cwd(), answer)
    words = _command(env, app, answer, request)
    for line in lines(answer):
        out.line("  " + line)
    _verdict(out, answer, words)
    out.result({**answer, "command": words})
    return int(answer["refusal"]["exit"]) if answer["refusal"] else 0


def _commit(ref: str) -> Json:
    from stelae.build import client_git

    found = client_git.describe(Path.cwd(), ref)
    client_git.refuse_dirty(
        found, hint="commit them; or build them with stelae build --dirty, and plan what it prints with --image"
    )
    return {"commit": found.commit, "path": found.path}


def _spec(environment: str, file: Path | None) -> str:
    """Return the text of *file*; without one that of stelae.toml here, when it has this environment."""
    import tomllib

    try:
        text = (file or Path(SPEC)).read_text("utf-8")
        if file is None:
            document = tomllib.loads(text)
            app, _, name = environment.partition("/")
            return text if document["app"]["name"] == app and name in document["env"] else ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        if file is None:
            return ""  # a plan needs no stelae.toml; whoever applies it is told what is wrong with it
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(str(reason), where=str(file)) from error
    return text


def _command(env: str, app: str, plan: Json, request: Json) -> str:
    """Return the command that does what was planned, or nothing."""
    words = ["stelae", plan["kind"], env, *(["--app", app] if app else [])]
    if plan["kind"] == "rollback":
        words += ["--to", plan["to"]["release"]]
    elif request["release"]:
        words += ["--release", plan["to"]["release"]]
    else:
        words += ["--image", plan["to"]["image"]]
    if request["strategy"]:
        words += ["--strategy", request["strategy"]]
    if request["supersede"]:
        words.append("--supersede")
    if plan["irreversible"]:
        words.append("--yes")
    return shlex.join([*words, "--plan", str(plan["index"])])


def lines(plan: Json) -> Iterator[str]:
    """Yield what a person reads of *plan*."""
    app, _, name = plan["environment"].partition("/")
    old, new = plan["from"] or {"release": "", "image": "", "disk": "", "commit": "", "subject": ""}, plan["to"]
    image = short_digest(new["image"])
    if old["image"] != new["image"]:
        image = f"{short_digest(old['image'])} -> {image}"
    yield (
        f"plan {plan['index']}   {app} {name}   {short_release(old['release'])} -> {short_release(new['release'])}"
        f"   image {image}"
    )
    rows = [
        *change_rows.rows(plan),
        ("settings", ", ".join(f"{item['name']} {item['change']}" for item in plan["settings"])),
        ("secrets", ", ".join(map(secret_change, plan["secrets"]))),
        ("secret env", ", ".join(f"{item['name']} {item['change']}" for item in plan["secret_env"])),
        ("processes", " · ".join(_count(*item) for item in plan["processes"].items())),
        ("disk", _disk(old["disk"], new["disk"])),
        ("hosts", ", ".join(plan["hosts"])),
        ("platform", platform(plan["platform"])),
        ("policy", _policy(plan)),
        ("under way", _under_way(plan["rollout"])),
        ("jobs", ", ".join(_job(job) for job in plan["jobs"])),
        ("goes back", ", ".join(f"across {item['text']}, which cannot be undone" for item in plan["irreversible"])),
        *_steps(plan),
        *_differences(plan["spec"]),
    ]
    for label, text in rows:
        if text:
            yield f"  {label:<10} {text}"


def _disk(old: str, new: str) -> str:
    """Say which disk machines boot, "" where none does."""
    if not new or old in ("", new):
        return new and short_digest(new)
    return f"{short_digest(old)} -> {short_digest(new)}"


def _count(name: str, count: Json) -> str:
    then = count["then"]
    between = f" (scaled, {count['min']} to {count['max']})" if count["min"] is not None else ""
    return (f"{name} {then}" if count["now"] == then else f"{name} {count['now']} -> {then}") + between


def _policy(plan: Json) -> str:
    """Say whether the policy lets it in, and of each thing that it looks at how that is."""
    refusal = plan["refusal"]
    looked = [f"{item['requirement']} {'ok' if item['ok'] else 'NOT PROVEN'}" for item in plan["proofs"]]
    if refusal and refusal["kind"] == "refused":
        return ", ".join(filter(None, ("no", " · ".join(looked))))
    policy = plan["policy"] or {"verified": None, "approvals": None, "freeze": None}
    if policy["verified"]:
        looked.append(_verified(policy["verified"]))
    if policy["approvals"]:
        by = f" ({policy['approvals']['by']})" if policy["approvals"]["by"] else ""
        looked.append(f"approvals 0/{policy['approvals']['needed']}{by}")
    if policy["freeze"]:
        looked.append(_freeze(policy["freeze"]))
    return " · ".join(looked)


def _verified(fact: Json) -> str:
    """Say where, when and on what evidence the image was verified, and by whose word if not by this record."""
    word = f", on the word of {fact['key'][:8]}" if fact["key"] else ""
    evidence = f" ({fact['evidence']})" if fact["evidence"] else ""
    return f"verified in {fact['environment']} {age(fact['at'], now())} ago{word}{evidence}"


def _freeze(window: Json) -> str:
    """Say until when it is frozen, or when it will be."""
    reason = f" by {window['reason']!r}" if window["reason"] else ""
    if window["frozen"]:
        return f"frozen until {window['until']}{reason}"
    return f"frozen in {span(window['begins'] - now())}{reason}"


def _job(job: Json) -> str:
    return f"{job['name']} before the traffic" + (" (cannot be undone)" if job["irreversible"] else "")


def _under_way(rollout: Json | None) -> str:
    if rollout is None:
        return ""
    return (
        f"{rollout['deployment']} of {rollout['actor']}, {rollout['strategy']} to "
        f"{short_release(rollout['candidate'])}, step {min(rollout['step'], rollout['steps'])} of {rollout['steps']}"
    )


def _steps(plan: Json) -> Iterator[tuple[str, str]]:
    if plan["nothing"]:
        return
    for number, (step, gate) in enumerate(zip(plan["steps"], plan["gates"], strict=False), 1):
        label = str(plan["strategy"]) if number == 1 else ""
        yield label, "; ".join((f"{number}  {_step(step)}", *_gate(gate)))
    if any(step["ratio"] for step in plan["steps"]):
        yield "", "a share comes of how many instances are ready: no Gateway gives exact ones here"
    if soak := sum(gate["soak"] for gate in plan["gates"]):
        yield "", f"at least {span(soak)} on the way"
    at = now()
    warm = [f"{short_release(name)} stays warm for {span(until - at)}" for name, until in plan["warm"].items()]
    serving = {**plan["after"], "holds": [held for held in plan["after"]["holds"] if held["serving"]]}
    yield "", "; ".join([f"then  {_step(serving)}", *warm])


def _step(step: Json) -> str:
    """Say what a step holds: each release with its processes, and its share where the traffic is not equal."""
    found: dict[str, list[str]] = {}
    for held in step["holds"]:
        warm = f"{held['warm']} warm" if held["warm"] else ""
        serving = str(held["serving"]) if held["serving"] or not warm else ""
        found.setdefault(held["release"], []).append(f"{held['process']} {' + '.join(filter(None, (serving, warm)))}")
    parts = []
    for release, counts in found.items():
        share = f" at {percent(step['traffic'][release])}" if release in step["traffic"] else ""
        if release in step["ratio"]:
            share = f" at about {percent(round(step['ratio'][release], -2))}"
        parts.append(f"{short_release(release)} {', '.join(counts)}{share}")
    return " · ".join(parts) or "nothing"


def _gate(gate: Json) -> Iterator[str]:
    """Say what a step waits for before the next one."""
    if gate["soak"]:
        yield f"soaks {span(gate['soak'])}"
    if gate["job"]:
        yield f"job {gate['job']}"
    if gate["checks"]:
        yield f"checks {', '.join(gate['checks'])}"
    if gate["manual"]:
        yield "a person lets it go on"


def _differences(spec: list[Json]) -> Iterator[tuple[str, str]]:
    """What the file says and the environment does not: a deployment does not apply it."""
    for number, change in enumerate(spec):
        words = f"{change['path']}: {change['old'] or 'nothing'} -> {change['new'] or 'nothing'}"
        yield "to apply" if number == 0 else "", words


def _verdict(out: Screen, plan: Json, words: str) -> None:
    """Say last what can be done."""
    if plan["spec"]:
        out.line(f"  {SPEC} says more than is applied; first: stelae env apply, then plan again")
    for warning in plan["warnings"]:
        out.line(f"  {warning}", "yellow")
    if plan["refusals"]:
        for number, refusal in enumerate(plan["refusals"]):
            what = "nor because of this:" if number else "it would not be done now:"
            out.line(f"  {what} {refusal['message']}", "yellow")
            for line in refusal["hint"].splitlines():
                out.line(f"    {line}")
    elif plan["nothing"]:
        out.line(f"  nothing would change: {short_release(plan['to']['release'])} serves already")
    else:
        out.line(f"  do it: {words}")
