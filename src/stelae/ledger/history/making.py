"""Making the index of history: the record taken in step by step, and taken up again where it was left.

A step is a transaction of the file; what is in memory is what the file says after the last one.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import msgspec

import stelae.core
import stelae.domain
import stelae.ledger.history
from stelae.core import fold
from stelae.core.lives import Life
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.domain.state import EnvironmentState, InstallationState
from stelae.ledger.faults import is_busy
from stelae.ledger.history import cells
from stelae.ledger.history.about import instance, named
from stelae.ledger.history.file import (
    CELLS,
    LIVES,
    NAMES,
    OPEN,
    POSTS,
    Head,
    IndexFile,
    Untrusted,
    nodes,
    sealing_key,
)
from stelae.ledger.history.follow import Following, Key, Lived
from stelae.ledger.store import Ledger

STEP = 256
"""How many events one step takes in: the most that a question folds."""

_T = TypeVar("_T")
_WHOLE = EnvironmentId("")
_LIFE = msgspec.json.Decoder(Life)
_ENCODER = msgspec.json.Encoder(order="deterministic")
_NAMES_KEPT = 20_000

_STABBED = tuple(
    f"SELECT field, key, place, value FROM cell INDEXED BY {index} WHERE env = ? AND node = ? AND {condition}"  # noqa: S608 - the words below
    for index, condition in (("cell_born", "born <= ?"), ("cell_died", "died > ?"))
)
LIVES_OF = "SELECT env, launched, over, value FROM life WHERE {} ORDER BY launched"


class Making:
    """The index of *ledger* in the file at *path*; *key* is the file of the key that seals it. Any thread may ask."""

    def __init__(self, ledger: Ledger, path: Path, key: Path, step: int = STEP) -> None:
        """*step* is how many events one step takes in, at most ``STEP``."""
        self._ledger = ledger
        self.each = step
        self._path = path
        self._key_path = key
        self._lock = threading.RLock()
        self._file: IndexFile | None = None
        self._code = _code()
        self.distrusted = ""
        """Why a file that was there was not believed, "" when none was there or it was."""

    def close(self) -> None:
        """Close the file; it is gone on with when it is opened next."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def size_on_disk(self) -> int:
        """Return how many bytes the file takes."""
        with self._lock:
            return self._opened().size()

    def _tried(self, work: Callable[[], _T], *, whole: bool = True) -> _T:
        """Do *work* with the file, the *whole* record taken in; once more with a new one when it is not believed."""
        with self._lock:
            for last in (False, True):
                try:
                    self._opened().check_mine()
                    while whole and self._step():
                        pass
                    found = work()
                    self._opened().check_mine()  # nor meanwhile
                    return found
                except Untrusted as why:
                    self.distrusted = str(why)
                    self._forget()
                    if last:
                        raise self._unusable(str(why)) from why
                except (OSError, sqlite3.Error) as error:
                    self.close()
                    raise self._unusable(str(error)) from error
        raise AssertionError

    def _unusable(self, why: str) -> Failed:
        return Failed(
            f"the index of history cannot be used: {why}", where=str(self._path),
            hint="check the disk; the index may be deleted, and is made again",
        )  # fmt: skip

    def _forget(self) -> None:
        if self._file is not None:
            self._file.remove()
            self._file = None
        else:
            for ending in ("", "-wal", "-shm", "-journal"):
                self._path.with_name(self._path.name + ending).unlink(missing_ok=True)

    def _opened(self) -> IndexFile:
        if self._file is None:
            try:
                self._file = IndexFile(self._path, sealing_key(self._key_path))
            except sqlite3.DatabaseError as error:
                if is_busy(error):  # a controller that was replaced has it, and is paused: this one makes its own
                    raise Untrusted("another process has it open") from error
                if isinstance(error, sqlite3.OperationalError):
                    raise
                raise Untrusted(f"the file is damaged: {error}") from error
            try:
                self._load(self._file, self._file.check(self._code))
            except BaseException:
                self.close()  # half of it would be in memory
                raise
        return self._file

    def _load(self, file: IndexFile, head: Head | None) -> None:
        """Take up what the file says; raises Untrusted when it is not of this record."""
        self._steps = 0 if head is None else head.steps
        size = self._steps * self.each
        if head is not None and (size > self._ledger.size or self._ledger.root_at(size) != head.root):
            raise Untrusted("it is of another record")
        self._names: dict[str, int] = {}
        self._orders: dict[EnvironmentId, dict[str, dict[str, int]]] = {}
        self._rows: dict[tuple[EnvironmentId, str, str], tuple[int, int]] = {}
        self._next = {t: self._one(f"SELECT coalesce(max(id), 0) + 1 FROM {t}") for t in ("name", "cell", "life")}  # noqa: S608 - our own names
        sql = "SELECT DISTINCT env, text FROM cell JOIN name ON name.id = env WHERE died = ?"
        texts = {number: str(text) for number, text in file.select(sql, (OPEN,))}
        sql = "SELECT env, field, key, place, id, born FROM cell WHERE died = ?"
        for number, field, key, place, row, born in file.select(sql, (OPEN,)):
            env = EnvironmentId(texts[number].removeprefix("e:"))
            self._orders.setdefault(env, {}).setdefault(str(field), {})[str(key)] = place
            self._rows[env, str(field), str(key)] = row, born
        self._state = self._compose(self._steps, None)
        open_lives = self._decoded(file.select(LIVES_OF.format("over IS NULL")))
        self._life_rows: dict[Key, int] = {}
        for row, text in file.select(
            "SELECT life.id, text FROM life JOIN name ON name.id = instance WHERE over IS NULL"
        ):
            _, of, name = str(text).split(":")
            self._life_rows[EnvironmentId(of), InstanceId(name)] = row
        self._following = Following.after(self._state.environments, open_lives)
        self._kept: tuple[tuple[int, int], Any] | None = None

    def _one(self, sql: str, *values: object) -> int:
        assert self._file is not None
        return int(self._file.select(sql, values)[0][0])

    def _step(self) -> bool:
        file = self._opened()
        end = (self._steps + 1) * self.each
        if end > self._ledger.size:
            return False
        items = list(self._ledger.read(end - self.each, end))
        before, self._state = self._state, fold.apply_all(self._state, items)
        self._following.changed.clear()
        posts: dict[str, bytearray] = {}
        for item in items:
            for name in self._following.take(item):
                posts.setdefault(name, bytearray()).append(item.index % self.each)
        try:
            file.begin()
            self._write_cells(file, before)
            self._write_lives(file)
            rows = [(self._name_for(file, name), self._steps, bytes(places)) for name, places in posts.items()]
            file.add(POSTS, rows)
            file.commit(Head(steps=self._steps + 1, root=self._ledger.root_at(end), code=self._code))
        except BaseException:
            self.close()  # what is in memory went ahead of the file
            raise
        self._steps += 1
        return end + self.each <= self._ledger.size

    def _write_cells(self, file: IndexFile, before: InstallationState) -> None:
        after, number = self._state, self._steps + 1
        found = [(_WHOLE, change) for change in _INSTALLATION.changes(before, after, self._orders.get(_WHOLE, {}))]
        for name, env in after.environments.items():
            old = before.environments.get(name) or EnvironmentState(id=name)
            if old is not env:
                found += [(name, item) for item in _ENVIRONMENT.changes(old, env, self._orders.get(name, {}))]
        born, ended = [], []
        for env_name, change in found:
            key = (env_name, change.field, change.key)
            orders = self._orders.setdefault(env_name, {}).setdefault(change.field, {})
            known = self._rows.pop(key, None)
            if known is not None:
                ended.append((*known, number))
                del orders[change.key]
            if change.value is not None:
                row = self._take("cell")
                env_row = self._name_for(file, named("e", env_name))
                born.append((row, env_row, change.field, change.key, change.order, number, change.value))
                self._rows[key] = row, number
                orders[change.key] = change.order
        file.add(CELLS, born)
        file.end_cells(ended)

    def _write_lives(self, file: IndexFile) -> None:
        new: list[tuple[Any, ...]] = []
        again: list[tuple[Any, ...]] = []
        for key, item in self._following.changed.items():
            row = self._life_rows.pop(key, None)
            release = self._state.environments[item.environment].releases.get(item.life.release)
            values = (
                self._take("life") if row is None else row,
                self._name_for(file, named("e", item.environment)),
                self._name_for(file, instance(item.environment, item.life.id)),
                self._name_for(file, named("m", release.image if release else "")),
                item.launched, item.over, _ENCODER.encode(item.life),
            )  # fmt: skip
            (new if row is None else again).append(values)
            if item.over is None:
                self._life_rows[key] = values[0]
        file.add(LIVES, new)
        file.replace_lives(again)

    def _take(self, table: str) -> int:
        found = self._next[table]
        self._next[table] = found + 1
        return found

    def _name(self, text: str) -> int | None:
        known = self._names.get(text)
        if known is None:
            rows = self._opened().select("SELECT id FROM name WHERE text = ?", (text,))
            if rows:
                known = self._names[text] = rows[0][0]
        return known

    def _name_for(self, file: IndexFile, text: str) -> int:
        known = self._names.get(text)
        if known is not None:
            return known
        if len(self._names) > _NAMES_KEPT:
            self._names.clear()
        rows = file.select("SELECT id FROM name WHERE text = ?", (text,))
        number = rows[0][0] if rows else self._take("name")
        if not rows:
            file.add(NAMES, [(number, text)])
        self._names[text] = number
        return number

    def _compose(self, steps: int, chosen: set[EnvironmentId] | None) -> InstallationState:
        """Return the state after *steps* whole steps."""
        try:
            values = _INSTALLATION.compose(self._cells(_WHOLE, steps))
            environments = {}
            for name in self._orders:
                if name and (chosen is None or name in chosen):
                    found = _ENVIRONMENT.compose(self._cells(name, steps))
                    if found:
                        environments[name] = EnvironmentState(**found)
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
            raise Untrusted(f"a cell cannot be read: {error}") from error
        return InstallationState(size=steps * self.each, environments=environments, **values)

    def _cells(self, name: EnvironmentId, step: int) -> list[Any]:
        number = self._name(named("e", name))
        if number is None or step == 0:
            return []
        select = self._opened().select
        found = select(_STABBED[0], (number, 0, step))
        for node, beyond in nodes(step, self._steps + 1):
            found += select(_STABBED[0 if beyond else 1], (number, node, step))
        return found

    def _decoded(self, rows: list[tuple[Any, ...]]) -> list[Lived]:
        found = []
        for env, launched, over, value in rows:
            text = self._text(env)
            life = _LIFE.decode(value)
            found.append(
                Lived(environment=EnvironmentId(text.removeprefix("e:")), launched=launched, life=life, over=over)
            )
        return found

    def _text(self, number: int) -> str:
        return str(self._opened().select("SELECT text FROM name WHERE id = ?", (number,))[0][0])


def _code() -> str:
    """Return the digest of the programs that the index is made by: another version may fold otherwise."""
    digest = sha256()
    for package in (stelae.domain, stelae.core, stelae.ledger.history):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


_INSTALLATION = cells.shape(InstallationState, "size", "environments")
_ENVIRONMENT = cells.shape(EnvironmentState)
