"""An app that behaves as badly as it is told to: the swift example, and what happens before it serves."""

from __future__ import annotations

from tests.real.machine import ROOT, Machine

SWIFT = ROOT / "examples" / "swift"

_MAIN = '\ndef main() -> None:\n    """Serve until SIGTERM."""\n'

BEHAVIOURS = {
    "fine": "",
    "never ready": "    time.sleep(3600)\n",
    "exits at once": "    sys.exit(3)\n",
    "exits after it was ready": "    later(READY_AFTER + 0.4, lambda: os._exit(7))\n",
    "hangs": "    _listen = _socket.socket()\n    _listen.bind(('0.0.0.0', 8000))\n    _listen.listen(9)\n"
    "    time.sleep(3600)\n",
    "eats memory": "    hoard = []\n    while True:\n        hoard.append(bytearray(b'x' * 1048576))\n",
}
"""What the program does first, by name."""

_HELPERS = '''
import _thread
import sys


def later(seconds, act):
    """Call *act* from a thread after *seconds*."""

    def wait():
        time.sleep(seconds)
        act()

    _thread.start_new_thread(wait, ())

'''

SPEC = """
[app]
name = "fickle"

[image]
base = "debian:bookworm"
packages = ["python3"]
user = "app"

[process.web]
command = {command}
port = 8000
health = {{ path = "/healthz", interval = "200ms", timeout = "500ms", start = "{start}" }}
drain = "2s"
stop = "2s"
memory = "32MiB"
"""

ENVIRONMENT = """
[env.{name}]
hosts = ["{name}.fickle.localhost"]
processes = {{ web = 2 }}
strategy = {{ kind = "{kind}", min_healthy = "{min_healthy}"{batch} }}
"""

KINDS = ("rolling", "blue-green", "recreate")
FRESH = "fresh"
"""An environment to which nothing good is ever deployed."""


def host(environment: str) -> str:
    """Return the host name of *environment*."""
    return f"{environment}.fickle.localhost"


def spec(command: str = "", *, start: str = "4s", min_healthy: str = "1s") -> str:
    """Return stelae.toml with one environment for each strategy, called as it is."""
    text = SPEC.format(command=command or '["python3", "-I", "-S", "swift"]', start=start)
    for name in (*KINDS, FRESH):
        kind = name if name in KINDS else "rolling"
        batch = ', batch = "50%"' if kind == "rolling" else ""
        text += ENVIRONMENT.format(name=name, kind=kind, min_healthy=min_healthy, batch=batch)
    return text


def make(machine: Machine) -> Machine:
    """Make the app's repository, apply its environments and commit version 1."""
    machine.use(SWIFT)
    behave(machine, "fine", "1")
    machine.cli("env", "apply")
    return machine


def behave(machine: Machine, behaviour: str, version: str, *, command: str = "", start: str = "4s") -> None:
    """Commit *version*, which behaves like that after it has said its version on its output."""
    text = (SWIFT / "swift" / "__main__.py").read_text()
    assert _MAIN in text
    text = text.replace('VERSION = "1"', f'VERSION = "{version}"')
    said = "".join(f"    print('line {n} of version {version}', file=sys.stderr, flush=True)\n" for n in (1, 2))
    text = text.replace(_MAIN, _HELPERS + _MAIN + said + BEHAVIOURS[behaviour])
    machine.write("swift/__main__.py", text)
    machine.write("stelae.toml", spec(command, start=start))
    machine.commit(f"version {version}")
