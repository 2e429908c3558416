"""What the releases of a contract do, as lines of ``sh`` with busybox's applets: one way for every platform."""

from __future__ import annotations

SERVE = "echo begins; trap 'exit 0' TERM; nc -ll -p 8000 -e {answer} & wait"
"""Serves on port 8000, each request by ``{answer}``."""


def scripts(answer: str, applet: str = "") -> dict[str, str]:
    """Return a script for each release of a subject, by the name of its field; those that serve answer by the command
    *answer*. *applet* is what stands before an applet that is no program of its own (``busybox``)."""
    run = f"{applet} " if applet else ""
    serve = SERVE.format(answer=answer)
    return {
        "serving": serve,
        "rival": serve,
        "hanging": "trap '' TERM; echo begins; while true; do sleep 0.1; done",
        "exiting": "echo begins; exit 3",
        "talking": """echo begins; while read -r line; do
            case "$line" in exit*) exit "${line#exit }";; esac; echo "got $line"; done""",
        "telling": f"""echo begins; cd /run/secrets; for name in *; do
            echo "$name $({run}wc -c < $name) $({run}sha256sum < $name | {run}cut -d' ' -f1)"; done
            echo "TEXT=$(printf %s "$TEXT" | {run}sha256sum | {run}cut -d' ' -f1)"
            trap 'exit 0' TERM; while true; do sleep 0.1; done""",
    }
