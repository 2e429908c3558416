"""The proxy's files: the table, and what HAProxy reads, which follows from it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from stelae.platforms.local.proxy.config import connection_limit, proxy_user, render_config, render_map
from stelae.platforms.local.proxy.counts import SCRIPT
from stelae.platforms.local.proxy.layout import Layout
from stelae.platforms.local.proxy.shape import shape_of
from stelae.platforms.local.proxy.table import Table, empty_table, from_json, to_json
from stelae.system.files import write_atomic

_SHAPES = 10


class Store:
    """Reads the table once and keeps the files equal to it. They need not survive a power-off: nothing that they
    name does."""

    def __init__(self, layout: Layout, *, backends: int, slots: int) -> None:
        self._layout = layout
        self._sizes = (backends, slots)
        self._table: Table | None = None
        self._shapes: tuple[str, ...] = ()
        self._saved = False
        self._user = proxy_user()
        self._limit = connection_limit()

    def table(self) -> Table:
        """Return the table, an empty one when there is no file; raises Failed when the file is broken."""
        if self._table is None:
            try:
                self._table = from_json(self._layout.state.read_bytes(), str(self._layout.state))
            except FileNotFoundError:
                self._table = empty_table(*self._sizes)
        return self._table

    def save(self, table: Table) -> None:
        """Make the files be *table*'s: before any worker hears of it, so that one that starts now knows it too."""
        if self._saved and table == self._table:
            return
        self._layout.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path, data in self._files(table):
            write_atomic(path, data, mode=0o600, durable=False)
            if path == self._layout.config:
                self._add_shape(shape_of(data))
        self._table, self._saved = table, True

    @property
    def shapes(self) -> Collection[str]:
        """The shapes of the configurations that were written, also by a Stelae before this one: a worker that has
        another one was started with somebody else's."""
        return self._shapes

    def _add_shape(self, shape: str) -> None:
        if not self._shapes and self._layout.shapes.exists():
            self._shapes = tuple(self._layout.shapes.read_text().split())
        if shape not in self._shapes:
            self._shapes = (*self._shapes, shape)[-_SHAPES:]
            text = "".join(f"{item}\n" for item in self._shapes)
            write_atomic(self._layout.shapes, text.encode(), mode=0o600, durable=False)

    def differences(self) -> list[str]:
        """Return a sentence for each file that is not what follows from the table."""
        found = []
        for path, data in self._files(self.table()):
            try:
                live = path.read_bytes()
            except FileNotFoundError:
                found.append(f"the file {path.name} is missing")
                continue
            if live != data:
                found.append(f"the file {path.name} is not what the table says")
        return found

    def _files(self, table: Table) -> tuple[tuple[Path, bytes], ...]:
        return (
            (self._layout.state, to_json(table)),
            (self._layout.hosts, render_map(table.names())),
            (self._layout.patterns, render_map(table.patterns())),
            (self._layout.script, SCRIPT),
            (self._layout.config, render_config(table, user=self._user, maxconn=self._limit)),
        )
