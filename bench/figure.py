"""Figures: samples with their median and spread, beside a goal; and the Markdown tables made of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table: *samples* in milliseconds, or in *unit*. ``goal`` is the most that the median should be.

    ``quoted`` samples were not measured in this run, but earlier, of another tool on a like machine.
    """

    name: str
    samples: Sequence[float]
    goal: float | None = None
    quoted: bool = False
    unit: str = "ms"

    @property
    def median(self) -> float:
        """The middle of the samples."""
        return statistics.median(self.samples)

    @property
    def reached(self) -> bool:
        """True when there is no goal, or the median is within it."""
        return self.goal is None or self.median <= self.goal


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table: the ratios are to the row at index *base*; without *ratios* there are none."""

    title: str
    text: str
    rows: Sequence[Row]
    base: int = 0
    ratios: bool = True

    def markdown(self) -> str:
        """Return the section as Markdown."""
        lines = [
            f"## {self.title}", "", self.text, "",
            "| | median | fastest to slowest | ratio | goal | reached |" if self.ratios else "| | | goal | reached |",
            "|---|--:|--:|--:|--:|---|" if self.ratios else "|---|--:|--:|---|",
        ]  # fmt: skip
        unit = self.rows[self.base].median
        lines += [_line(row, row.median / unit if self.ratios else None) for row in self.rows]
        return "\n".join(lines) + "\n"


def _line(row: Row, ratio: float | None) -> str:
    goal = "" if row.goal is None else f"≤ {_in_unit(row, row.goal)}"
    verdict = "" if row.goal is None else "yes" if row.reached else "**no**"
    middle = f"| {row.name} | {_in_unit(row, row.median)} |"
    if ratio is None:
        return f"{middle} {goal} | {verdict} |"
    spread = "quoted, not measured here"
    if not row.quoted:
        low, high = min(row.samples), max(row.samples)
        spread = f"{_in_unit(row, low)} to {_in_unit(row, high)} ({len(row.samples)} runs)"
    return f"{middle} {spread} | {ratio:.2f} | {goal} | {verdict} |"


def _in_unit(row: Row, value: float) -> str:
    return shown(value) if row.unit == "ms" else f"{value:.3g} {row.unit}"


def shown(milliseconds: float) -> str:
    """Return a time for a person: three digits, in ms or s."""
    if milliseconds >= 999.5:
        return f"{milliseconds / 1000:.2f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.1f} ms"
