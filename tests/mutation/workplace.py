"""The workplace of mutation testing: a copy of the sources and of the tests that judge them, which mutmut may change.

It is kept from run to run, so that only what changed is tried again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import libcst as cst

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".mutation"
CORE = "src/stelae/core"
PROFILE = "tests/mutation/profile.py"
TESTS = (
    "tests/__init__.py",
    "tests/unit/__init__.py",
    "tests/unit/core",
    "tests/unit/ledger/__init__.py",
    "tests/unit/ledger/test_merkle.py",
    PROFILE,
)
"""What a mutant must pass to survive: the tests of the core itself, which are quick and the same each time."""

STATS = PLACE / "mutants" / "mutmut-stats.json"


def prepare() -> None:
    """Make the copy what the sources are. Where a test changed, what survived before is tried again."""
    before = _digest(PLACE / "tests")
    _copy("pyproject.toml")
    _mirror("src/stelae")
    for path in TESTS:
        _mirror(path)
    if _digest(PLACE / "tests") != before:
        _forget_survivors()


def metas() -> Iterator[Path]:
    """Yield the files in which mutmut keeps the results, one for each module."""
    yield from sorted((PLACE / "mutants" / CORE).rglob("*.py.meta"))


def module_of(meta: Path) -> str:
    """Return the name of the module that *meta* is of, below the core: ``decide``, ``folds.rollouts``."""
    return ".".join(meta.relative_to(PLACE / "mutants" / CORE).parts).removesuffix(".py.meta")


def _mirror(path: str) -> None:
    source = ROOT / path
    wanted = [source] if source.is_file() else [file for file in source.rglob("*") if file.is_file()]
    names = {str(file.relative_to(ROOT)) for file in wanted if "__pycache__" not in file.parts}
    for name in names:
        _copy(name)
    for base in (PLACE, PLACE / "mutants"):
        for file in (base / path).rglob("*.py"):
            if str(file.relative_to(base)) not in names:
                file.unlink()


def _copy(name: str) -> None:
    """Copy one file, if it changed: mutmut goes by the time of its last change."""
    content = (ROOT / name).read_bytes()
    if name.startswith(CORE):
        content = undecorated(content.decode()).encode()
    place = PLACE / ("tests/conftest.py" if name == PROFILE else name)
    if not place.exists() or place.read_bytes() != content:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def _digest(folder: Path) -> str:
    files = sorted(file for file in folder.rglob("*.py"))
    return hashlib.sha256(b"".join(str(file).encode() + file.read_bytes() for file in files)).hexdigest()


def _forget_survivors() -> None:
    """Let what no test killed be tried again, and the map of tests to functions be drawn anew."""
    STATS.unlink(missing_ok=True)
    shutil.rmtree(PLACE / "mutants" / "tests", ignore_errors=True)
    for meta in metas():
        data = json.loads(meta.read_text())
        codes = data["exit_code_by_key"]
        data["exit_code_by_key"] = {name: code if code in KILLED else None for name, code in codes.items()}
        meta.write_text(json.dumps(data))


KILLED = (1, 3, 24, -24, 36, 152, 255)
"""Exit codes of a test run that found the mutant: a test failed, or did not end in its time."""


def undecorated(source: str) -> str:
    """Return *source* with each decorator made a call below its function: mutmut leaves out what is decorated."""
    return cst.parse_module(source).visit(_Undecorate()).code


class _Undecorate(cst.CSTTransformer):
    def leave_FunctionDef(  # noqa: N802 - named by libcst
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef | cst.FlattenSentinel[cst.BaseStatement]:
        if not updated_node.decorators:
            return updated_node
        name = updated_node.name
        made: cst.BaseExpression = name
        for decorator in reversed(updated_node.decorators):
            made = cst.Call(func=decorator.decorator, args=[cst.Arg(made)])
        assign = cst.Assign(targets=[cst.AssignTarget(name)], value=made)
        return cst.FlattenSentinel([updated_node.with_changes(decorators=[]), cst.SimpleStatementLine([assign])])
