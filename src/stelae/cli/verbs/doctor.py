"""``stelae doctor``: can this machine run Stelae?"""

from __future__ import annotations

import click

from stelae.cli.common import installation_from, screen, verb


@click.command("doctor", short_help="Examine this machine and say what to do.")
@verb
def command() -> int:
    """Examine this machine: what Stelae needs, what is there, and what to do about the rest."""
    from stelae.controller.doctor import examine

    out = screen()
    checks = examine(installation_from())
    problems = [check for check in checks if not check.ok]
    out.line(
        f"  {len(problems)} problem{'s' if len(problems) != 1 else ''}" if problems else "  this machine is ready"
    )
    width = max(len(check.name) for check in checks)
    for check in [*problems, *(check for check in checks if check.ok)]:
        out.line(f"  {'ok     ' if check.ok else 'problem'}  {check.name.ljust(width)}  {check.text}")
        if check.hint:
            out.line(f"           {' ' * width}  {check.hint}")
    out.result(
        {
            "ok": not problems,
            "checks": [{"name": c.name, "ok": c.ok, "text": c.text, "hint": c.hint} for c in checks],
        }
    )
    return 1 if problems else 0
