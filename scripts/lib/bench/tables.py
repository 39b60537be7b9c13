# SPDX-License-Identifier: GPL-2.0-or-later
"""The figures as tables: for a terminal, and for BENCH.md."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench.processes import OURS, TARGET_NAMES, TARGETS
from bench.rounds import compare
from bench.scenarios import SCENARIOS

if TYPE_CHECKING:
    from bench.bounds import Verdict
    from bench.rounds import Samples, Spread
    from bench.solo import Result

Row = tuple[str, ...]

HEAD: Row = (
    *("scenario", "of", "rate/s", "CPU us", "p50 us", "p99 us", "p99.9 us"),
    *("our CPU over its", "our rate over its", "our p99 over its"),
)
COLUMNS = {"rate": 0, "cpu_us": 1, "p50_us": 0, "p99_us": 0, "p999_us": 0}
"""The figures below these, and their decimals."""


def rounds_table(samples: Samples) -> list[Row]:
    """Return a row for each scenario and target: medians, and ours over the others' (spread)."""
    rows: list[Row] = [HEAD]
    for name, targets in samples.items():
        for kind in sorted(targets.keys() & TARGETS, key=TARGETS.index):
            found = targets[kind]
            figures = [
                f"{median(sample[figure] for sample in found):,.{digits}f}"
                for figure, digits in COLUMNS.items()
            ]
            beside = SCENARIOS[name].beside if kind == OURS else kind
            ratios = [
                ratio(compare(samples, figure, name, beside))
                for figure in ("cpu_us", "rate", "p99_us")
            ]
            of = TARGET_NAMES[kind]
            if kind == OURS and beside:
                of += f", beside {beside}"
            rows.append((name, of, *figures, *ratios))
    return rows


def ratio(found: Spread | None) -> str:
    """Return a ratio's median and spread."""
    return f"{found.median:.2f} ({found.least:.2f}-{found.most:.2f})" if found else ""


def solo_table(solo: dict[str, Result]) -> list[Row]:
    """Return a row for each figure of the checks by themselves."""
    rows: list[Row] = [("check", "figure", "found")]
    for name, result in solo.items():
        rows += [(name, figure, f"{value:,.2f}") for figure, value in result.items()]
    return rows


def verdict_table(verdicts: list[Verdict]) -> list[Row]:
    """Return a row for each bound."""
    rows: list[Row] = [("bound", "found", "verdict")]
    return rows + [(v.text, v.found, "good" if v.good else "NOT YET") for v in verdicts]


def machine_table(machine: dict[str, str]) -> list[Row]:
    """Return a row for each thing to know about the machine."""
    return [("machine", ""), *machine.items()]


def plain(rows: list[Row]) -> str:
    """Lay rows out for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if cell[:1].isdigit() and column > 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def markdown(rows: list[Row]) -> str:
    """Lay rows out for BENCH.md."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines)
