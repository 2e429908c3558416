"""``stelae kubernetes``: what the administrator of a cluster applies once."""

from __future__ import annotations

import click

from stelae.cli.common import app_option, client, environment_name, screen, verb


@click.group("kubernetes", no_args_is_help=False, short_help="What the administrator of a cluster applies once.")
def command() -> None:
    """Print what the administrator of a cluster applies once for the namespace of an environment, as YAML:

    stelae kubernetes rbac ENV | kubectl apply -f -
    """


@command.command("policy", short_help="Print the policy that lets only recorded images in.")
@click.argument("env", metavar="ENV")
@app_option
@verb
def policy_command(env: str, app: str) -> None:
    """Print a ValidatingAdmissionPolicy for the namespace of ENV: it refuses every pod whose image is not that of a
    recorded release. The list of these is a ConfigMap that the controller keeps."""
    _print(environment_name(env, app), "policy")


@command.command("rbac", short_help="Print the least that the controller has to be allowed.")
@click.argument("env", metavar="ENV")
@click.option("--user", default="", metavar="NAME", help="Who the controller is (default: a service account stelae).")
@app_option
@verb
def rbac_command(env: str, user: str, app: str) -> None:
    """Print a Role in the namespace of ENV with all that the controller does there and nothing else, and its
    binding."""
    _print(environment_name(env, app), "rbac", user)


def _print(environment: str, what: str, user: str = "") -> None:
    from stelae.cli import manifest

    out = screen()
    answer = client().get("/v1/cluster-setup", environment=environment, what=what, user=user)
    out.result(answer)
    for line in manifest.lines(answer["objects"]):
        out.line(line)
