"""Where the proxy's files are, below the installation's run folder (they live as long as the machine is up)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONFIG = "haproxy.cfg"
FALLBACK = "haproxy.good.cfg"
HOSTS = "hosts.map"
PATTERNS = "patterns.map"
SCRIPT = "count.lua"

LISTENER_VARIABLE = "STELAE_LISTENER"
"""The environment variable by which HAProxy's configuration learns the number of the inherited socket."""

SOCKET_VARIABLE = "STELAE_SOCKET"
"""The environment variable that names the worker's own runtime socket."""

FRONTEND = "web"


@dataclass(frozen=True, slots=True)
class Layout:
    """The proxy's folder and the files in it. HAProxy runs with ``folder`` as its working folder, so that
    no path of the machine needs quoting in its configuration."""

    folder: Path

    @property
    def config(self) -> Path:
        """What HAProxy reads when it starts."""
        return self.folder / CONFIG

    @property
    def fallback(self) -> Path:
        """The last configuration that a worker started with, every server disabled."""
        return self.folder / FALLBACK

    @property
    def hosts(self) -> Path:
        """The map of names, a line each; ``routes`` says what is in it."""
        return self.folder / HOSTS

    @property
    def patterns(self) -> Path:
        """The map of regular expressions, a line each; ``routes`` says what is in it."""
        return self.folder / PATTERNS

    @property
    def script(self) -> Path:
        """The Lua that HAProxy loads; ``counts`` has it."""
        return self.folder / SCRIPT

    @property
    def kept(self) -> Path:
        """What workers that ended had counted, kept by the supervisor."""
        return self.folder / "counts.json"

    @property
    def shapes(self) -> Path:
        """The shapes of the configurations that were written here, a line each, the newest last."""
        return self.folder / "shapes"

    @property
    def state(self) -> Path:
        """The router's memory: which environment and instance has which backend and slot."""
        return self.folder / "table.json"

    @property
    def status(self) -> Path:
        """What the supervisor says of itself and of its workers."""
        return self.folder / "supervisor.json"

    @property
    def lock(self) -> Path:
        """Locked by the supervisor as long as it lives; holds its process id."""
        return self.folder / "supervisor.pid"

    @property
    def log(self) -> Path:
        """What HAProxy said when it started last."""
        return self.folder / "haproxy.log"

    def socket(self, generation: int) -> Path:
        """The runtime socket of one worker; each start of HAProxy is a generation."""
        return self.folder / socket_name(generation)


def socket_name(generation: int) -> str:
    """Return the file name of the runtime socket of worker *generation*."""
    return f"w{generation}.sock"


def backend_name(number: int) -> str:
    """Return HAProxy's name of a backend."""
    return f"b{number}"


def server_name(number: int) -> str:
    """Return HAProxy's name of a slot."""
    return f"s{number}"
