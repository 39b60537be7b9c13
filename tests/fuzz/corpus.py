# SPDX-License-Identifier: GPL-2.0-or-later
"""The corpora of the fuzz targets: inputs that reach different parts of the code.

A target's corpus is one text file, `corpus/TARGET.txt`: one input a line, written as a Python bytes
literal, sorted by length and then by value. `scripts/fuzz --keep` writes these files; a line may
also be added or removed by hand.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path(__file__).parent / "corpus"


def load(target: str) -> list[bytes]:
    """Return the inputs of a target's corpus; [] if it has none."""
    path = FOLDER / f"{target}.txt"
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return [ast.literal_eval(line) for line in lines]


def save(target: str, inputs: Iterable[bytes]) -> None:
    """Write a target's corpus, each input once; no file if there is none."""
    path = FOLDER / f"{target}.txt"
    path.unlink(missing_ok=True)
    kept = sorted(set(inputs), key=lambda data: (len(data), data))
    if kept:
        path.write_text("".join(f"{data!r}\n" for data in kept), "ascii")
