"""Starting one instance, step by step, so that a crash after any step is resumed and never guessed.

The record says how far a launch came. Before CREATED nothing of the app has run, so what is there is
swept away and made anew. From CREATED on the runtime is asked whether the program was started.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stelae.domain.errors import Failed
from stelae.domain.release import Release
from stelae.platforms.local import launched, private, record
from stelae.platforms.local.addresses import AddressPool
from stelae.platforms.local.cgroup import Cgroups
from stelae.platforms.local.form import Forms, Host
from stelae.platforms.local.inventory import sweep
from stelae.platforms.local.network import Network
from stelae.platforms.local.place import Place, exits_folder, places
from stelae.platforms.local.record import Record, Stage
from stelae.platforms.local.runtime import WaitingConmon, choose_runtime, talking
from stelae.platforms.local.seccomp import load_filter
from stelae.platforms.local.terminal import attach
from stelae.platforms.port import LaunchSpec, SecretSource
from stelae.platforms.secret_values import values_of
from stelae.system.files import sync_folder, write_atomic
from stelae.system.installation import Installation


class Launcher:
    """Launches and removes instances. Blocking; safe for threads, but for two acts on one instance at once."""

    def __init__(
        self, installation: Installation, forms: Forms, *, cgroup_parent: str = "", runtime: str | None = None,
        secrets: SecretSource | None = None,
    ) -> None:  # fmt: skip
        self._secrets = secrets
        self._installation = installation
        self._forms = forms
        self.cgroups = Cgroups(cgroup_parent or installation.cgroup)
        self.network = Network(installation)
        self._runtime = runtime
        self._seccomp: Mapping[str, Any] | None = None
        self._ready = False
        self._lock = threading.Lock()
        self._terminals: dict[str, socket.socket] = {}
        found = [record.load(place) for place in places(installation)]
        used = [item.address for item in found if item is not None]
        self._addresses = AddressPool(installation.subnet, installation.gateway, used)

    def ensure_network(self) -> None:
        """Make the bridge and the packet filter be there; raises Failed, Unreachable."""
        with self._lock:
            self.network.ensure()
            exits_folder(self._installation).mkdir(parents=True, exist_ok=True)
            self._ready = True

    def prepare(self, release: Release) -> None:
        """Have all that a launch of *release* needs, secrets that can be read included; raises Failed."""
        self._forms.of(release).prepare(release)
        values_of(self._secrets, release)

    def launch(self, place: Place, spec: LaunchSpec) -> None:
        """Start the instance, or finish what an earlier launch of it began; raises Failed, Unreachable.

        When it fails, nothing is left of it but its log.
        """
        found = record.load(place)
        if found is not None and found.stage is Stage.STARTED:
            return
        if found is not None and found.stage is Stage.CREATED and self._was_started(place, found):
            _started(place, spec, found)
            return
        if spec.once and place.begun.exists():
            self._finish(place, spec, found)
            return
        self.remove(place)
        if not self._ready:
            self.ensure_network()
        try:
            values = values_of(self._secrets, spec.release)
            created = self._created(place, spec, values)
            if spec.once:
                _mark(place)
            self._listen(place, spec)
            private.runtime_at(place, created.runtime).start(place.cid)
            _started(place, spec, created)
        except OSError as error:
            self.remove(place)
            raise Failed(error.strerror or str(error), where=error.filename or "") from error
        except BaseException:
            self.remove(place)
            raise

    def began(self, place: Place) -> bool:
        """See ``Engine.began``: the mark tells, unless the runtime says that the program still waits."""
        found = record.load(place)
        waits = found is not None and found.stage is Stage.CREATED and not self._was_started(place, found)
        return place.begun.exists() and not waits

    def _finish(self, place: Place, spec: LaunchSpec, found: Record | None) -> None:
        """Start the program of a run that an earlier launch was about to start, if it certainly did not: its own
        container, which can be started once only; raises Failed."""
        if found is None or found.stage is not Stage.CREATED:
            raise Failed(f"{place.key} may have run before", hint="a run is started once; ask for another one")
        self._listen(place, spec)
        try:
            private.runtime_at(place, found.runtime).start(place.cid)
        except Failed:
            if not self._was_started(place, found):
                raise
        _started(place, spec, found)

    def _listen(self, place: Place, spec: LaunchSpec) -> None:
        """Before its program starts: have a debug session's output wait for who attaches; raises Failed."""
        if spec.debug is not None:
            self._terminals[place.key] = attach(place)

    def terminal(self, place: Place) -> socket.socket:
        """Return a connection to the terminal of a debug session: the one that has its output from the start, to who
        asks first. Raises Failed when it is not there."""
        return self._terminals.pop(place.key, None) or attach(place)

    def close(self) -> None:
        """Let go of the terminals that nobody asked for."""
        while self._terminals:
            self._terminals.popitem()[1].close()

    def remove(self, place: Place) -> None:
        """Take away all that the instance has; raises Failed when the machine refuses."""
        waiting = self._terminals.pop(place.key, None)
        if waiting is not None:
            waiting.close()
        found = record.load(place)
        try:
            sweep(place, self.cgroups, self.network, found)
        except OSError as error:
            raise Failed(f"{place.key} could not be removed: {error}") from error
        if found is not None:
            self._addresses.free(found.address)

    def _created(self, place: Place, spec: LaunchSpec, values: Mapping[str, bytes]) -> Record:
        """Create the container, once more where the host's control groups became another runtime's meanwhile."""
        begun = self._begin(place, logged=spec.debug is None)
        try:
            return self._create(place, spec, begun, values)
        except Failed:
            if self._runtime or choose_runtime() == begun.runtime:
                raise
            self.remove(place)
            return self._create(place, spec, self._begin(place, logged=spec.debug is None), values)

    def _begin(self, place: Place, *, logged: bool) -> Record:
        address = self._addresses.take()
        try:
            binary = self._runtime or choose_runtime()
            begun = Record(stage=Stage.PREPARING, address=address, runtime=binary)
            # the settings in it are nobody's on the machine but root's
            (self._installation.run / "instances").mkdir(mode=0o700, parents=True, exist_ok=True)
            place.folder.mkdir(parents=True)
            if logged:
                place.make_logs()
            record.save(place, begun)
        except BaseException:
            self._addresses.free(address)
            raise
        return begun

    def _create(self, place: Place, spec: LaunchSpec, begun: Record, values: Mapping[str, bytes]) -> Record:
        if self._seccomp is None:
            self._seccomp = load_filter()
        host = Host(
            seccomp=self._seccomp,
            cgroup_path=self.cgroups.path(place.cid),
            unified=self.cgroups.unified,
            limits_swap=self.cgroups.limits_swap,
            gateway=self._installation.gateway,
        )
        form = self._forms.of(spec.release)
        if size := form.room(values):
            private.make(place, size)
        runtime = private.runtime_at(place, begun.runtime)
        # the kernel makes the network and moves conmon at the same time: each is mostly waiting
        with ThreadPoolExecutor(max_workers=1) as beside:
            network = beside.submit(self.network.attach, begun.address, place.netns, form.tap)
            talk = talking(spec.debug, spec.limit) if spec.debug is not None else ()
            with WaitingConmon(place, runtime, self.cgroups, talk) as waiting:
                form.write(place, spec, begun.address, values, host)
                bundle = private.without((place.folder / "config.json").read_bytes(), spec.release.secret_env)
                network.result()
                process, conmon = waiting.create()
        created = Record(
            stage=Stage.CREATED, address=begun.address, runtime=begun.runtime, process=process, conmon=conmon
        )
        limits = self.cgroups.limit_files(place.cid)
        launched.save(place, process, bundle, limits, form.files(spec.release))
        record.save(place, created)
        return created

    def _was_started(self, place: Place, found: Record) -> bool:
        """True unless the runtime says that the program still waits: what may have run is not run again."""
        return private.runtime_at(place, found.runtime).status(place.cid) != "created"


def _mark(place: Place) -> None:
    """Note, so that a power-off does not take it, that the program of a run may begin from now on."""
    folder = place.begun.parent
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)
    write_atomic(place.begun, b"")


def _started(place: Place, spec: LaunchSpec, created: Record) -> None:
    """The program was started: what the launch needed of its secrets goes, then the record says so."""
    private.settle(place, created.runtime, spec.release.secret_env)
    record.save(place, created.at(Stage.STARTED))
