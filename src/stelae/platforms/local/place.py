"""Places: where one instance's things are on the machine, found from its names alone.

Everything that an instance has can be found again by these names, so cleaning up needs no memory.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import InvalidInput
from stelae.system.installation import Installation

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True, slots=True)
class Place:
    """The names and paths of one instance. Made by ``place_of``, which checks the names."""

    installation: Installation
    app: str
    environment: str
    instance: InstanceId

    @property
    def environment_id(self) -> EnvironmentId:
        """``app/environment``."""
        return EnvironmentId(f"{self.app}/{self.environment}")

    @property
    def key(self) -> str:
        """``app/environment/instance``: the instance's name in the installation."""
        return f"{self.app}/{self.environment}/{self.instance}"

    @property
    def cid(self) -> str:
        """The key with dots: the container's id, and the name of its cgroups and namespace."""
        return key_to_cid(self.key)

    @property
    def folder(self) -> Path:
        """The bundle and the record; gone after a power-off."""
        return self.installation.run / "instances" / self.app / self.environment / self.instance

    @property
    def record(self) -> Path:
        """What was decided for the instance and how far its launch came (see ``record.py``)."""
        return self.folder / "instance.json"

    @property
    def launched(self) -> Path:
        """How the instance was launched, for inspections (see ``launched.py``)."""
        return self.folder / "launched.json"

    @property
    def begun(self) -> Path:
        """Exists from just before the program of a run is started until the run is removed; a power-off leaves it."""
        return begun_folder(self.installation) / self.cid

    @property
    def killed(self) -> Path:
        """Exists when Stelae itself sent SIGKILL, so that it is not taken for the kernel's."""
        return self.folder / "killed"

    @property
    def control(self) -> Path:
        """conmon's FIFO for orders."""
        return self.folder / "ctl"

    @property
    def private(self) -> Path:
        """Where the secrets are while the instance is launched, if it has any (see ``private.py``)."""
        return self.folder / "private"

    @property
    def netns(self) -> Path:
        """The file on which the network namespace is mounted."""
        return netns_folder(self.installation) / self.cid

    @property
    def exit(self) -> Path:
        """The exit status, written by conmon when all output has been written."""
        return exits_folder(self.installation) / self.cid

    @property
    def logs(self) -> Path:
        """The folder of the instance's output; outlives the instance. It is in the run folder when the disk was
        full at the launch."""
        found = self.run_logs
        return found if found.is_dir() else self._kept_logs

    @property
    def run_logs(self) -> Path:
        """The folder of the output of an instance that was launched on a full disk; gone after a power-off."""
        return self.installation.run / "logs" / self.app / self.environment / self.instance

    @property
    def _kept_logs(self) -> Path:
        return self.installation.instances / self.app / self.environment / self.instance

    def make_logs(self) -> None:
        """Make the folder of the output: a full disk must not keep an instance, or a rollback, from starting."""
        try:
            self._kept_logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.run_logs.mkdir(parents=True, exist_ok=True)

    @property
    def log(self) -> Path:
        """The file that conmon writes now."""
        return self.logs / "log"


def place_of(installation: Installation, environment: EnvironmentId, instance: InstanceId) -> Place:
    """Return the place of an instance; raises InvalidInput when a name could leave its folder."""
    app, _, name = environment.partition("/")
    for part in (app, name, instance):
        if not _PART.fullmatch(part):
            raise InvalidInput(f"not a name: {part[:100]!r}", where=f"{environment}/{instance}"[:200])
    return Place(installation, app, name, instance)


def environment_folder(installation: Installation, environment: EnvironmentId) -> Path:
    """Return the folder of the instances of *environment*; raises InvalidInput on a name that is none."""
    return place_of(installation, environment, InstanceId("x")).folder.parent


def places(installation: Installation) -> Iterator[Place]:
    """Yield the place of every instance that has a folder, whatever is in it."""
    for folder in sorted((installation.run / "instances").glob("*/*/*")):
        app, environment, instance = folder.parts[-3:]
        yield Place(installation, app, environment, InstanceId(instance))


def netns_folder(installation: Installation) -> Path:
    """Return where network namespaces are mounted."""
    return installation.run / "netns"


def begun_folder(installation: Installation) -> Path:
    """Return where the runs are marked whose program may have begun."""
    return installation.state / "runs"


def exits_folder(installation: Installation) -> Path:
    """Return where conmon leaves exit statuses."""
    return installation.run / "exits"


def key_to_cid(key: str) -> str:
    """Return the container id for ``app/environment/instance``."""
    return key.replace("/", ".")


def cid_to_key(cid: str) -> str:
    """Return ``app/environment/instance`` for a container id."""
    return cid.replace(".", "/")
