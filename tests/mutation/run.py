"""Mutation testing of the core: it is changed in one place at a time, and a test must fail each time.

``python tests/mutation/run.py [MODULE …] [--fresh]`` prints how many changes were found, by module (``decide``,
``folds``, ``folds.rollouts``). It fails when
fewer than ``ENOUGH`` percent were, or when one was not found that ``survivors.toml`` gives no reason for.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.mutation.workplace import KILLED, PLACE, metas, module_of, prepare

ENOUGH = 90
"""Percent of the mutants that must be killed."""

LIST = Path(__file__).with_name("survivors.toml")
WORKERS = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One change of the core: ``key`` says where and what, whatever its number is."""

    name: str
    module: str
    function: str
    change: str
    code: int | None

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is listed by."""
        return self.module, self.function, self.change

    @property
    def killed(self) -> bool:
        """True when a test found it."""
        return self.code in KILLED


def main(arguments: list[str]) -> int:
    """Run what has no result yet (or all of the modules that are named); return 0 when all is well."""
    modules = [argument for argument in arguments if not argument.startswith("-")]
    if "--fresh" in arguments:
        shutil.rmtree(PLACE, ignore_errors=True)
    prepare()
    if "--results" not in arguments:
        which = [f"stelae.core.{module}.*" for module in modules]
        mutmut = Path(sys.executable).with_name("mutmut")
        os.nice(max(0, 15 - os.nice(0)))
        done = subprocess.run([mutmut, "run", "--max-children", WORKERS, *which], cwd=PLACE)
        if done.returncode:
            return done.returncode
    found = [mutant for mutant in mutants() if not modules or _asked(mutant.module, modules)]
    return judge(found, reasons())


def _asked(module: str, modules: list[str]) -> bool:
    """Say whether *module* is one of *modules*, or in one that is a package."""
    return any(module == name or module.startswith(f"{name}.") for name in modules)


def reasons() -> dict[tuple[str, str, str], str]:
    """Return why each listed mutant may survive."""
    listed = tomllib.loads(LIST.read_text(encoding="utf-8")).get("survivor", [])
    return {(item["module"], item["function"], item["change"]): item["reason"] for item in listed}


def judge(found: list[Mutant], listed: dict[tuple[str, str, str], str]) -> int:
    """Print what was found; return 1 when it is not enough."""
    for module in sorted({mutant.module for mutant in found}):
        of_it = [mutant for mutant in found if mutant.module == module]
        print(f"  {module:<18} {_share(of_it)}")
    print(f"  {'core':<18} {_share(found)}")
    alive = [mutant for mutant in found if not mutant.killed]
    new = [mutant for mutant in alive if not listed.get(mutant.key)]
    for mutant in new:
        print(f"\nsurvives, and {LIST.name} gives no reason ({mutant.name}, code {mutant.code}):\n{_entry(mutant)}")
    modules = {mutant.module for mutant in found}
    for key in sorted(key for key in listed if key[0] in modules and key not in {mutant.key for mutant in alive}):
        print(f"\nlisted in {LIST.name}, and does not survive: {key}")
    enough = 100 * (len(found) - len(alive)) >= ENOUGH * len(found)
    return 0 if enough and not new else 1


def _share(found: list[Mutant]) -> str:
    killed = sum(mutant.killed for mutant in found)
    return f"{killed:5} of {len(found):5} mutants killed, {100 * killed / max(1, len(found)):5.1f} %"


def _entry(mutant: Mutant) -> str:
    fields = {"module": mutant.module, "function": mutant.function, "change": mutant.change, "reason": ""}
    return "\n".join(["[[survivor]]", *(f"{name} = {json.dumps(value)}" for name, value in fields.items())])


def mutants() -> Iterator[Mutant]:
    """Yield every mutant, with the exit code of its tests."""
    for meta in metas():
        codes = json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
        spans = json.loads(meta.with_suffix(".spans").read_text(encoding="utf-8"))["spans"]
        lines = meta.with_suffix("").read_text(encoding="utf-8").splitlines()
        for name, code in codes.items():
            own = name.rpartition(".")[2]
            base = own.rpartition("__mutmut_")[0]
            function = base.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
            short = function.rpartition(".")[2]
            before, after = (
                [line.replace(full, short) for line in _lines(lines, spans[full])]
                for full in (f"{base}__mutmut_orig", own)
            )
            change = _change(before, after)
            yield Mutant(name=name, module=module_of(meta), function=function, change=change, code=code)


def _lines(lines: list[str], span: list[int]) -> list[str]:
    first, last = span
    return [line.strip() for line in lines[first - 1 : last] if line.strip()]


def _change(before: list[str], after: list[str]) -> str:
    told = [line for line in difflib.unified_diff(before, after, lineterm="", n=0) if line[:3] not in ("---", "+++")]
    return "\n".join(line for line in told if not line.startswith("@@"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
