# SPDX-License-Identifier: GPL-2.0-or-later
"""`scripts/trace-request`: what one request takes, and its bounds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def trace(*options: str) -> subprocess.CompletedProcess[str]:
    """Run it as the script does."""
    folders = (ROOT, ROOT / "tests/support", ROOT / "scripts/lib")
    return subprocess.run(
        [sys.executable, "-m", "trace_request", *options],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("options", [(), ("--kept",)], ids=["a connection each", "kept open"])
def test_trace_shows_the_path_of_a_request_in_order(options: tuple[str, ...]) -> None:
    """Functions of each file on the path are called in their order; the sums are right."""
    done = trace(*options)
    assert done.returncode == 0, done.stderr

    *lines, summary = done.stdout.splitlines()
    calls = [tuple(line.split()) for line in lines]
    functions = [function for _, function in calls]
    path = ["Pool.transact", "Lond.exchange", "ClientConnection._write"]
    assert [name for name in functions if name in path][: len(path)] == path
    assert ("ClientConnection.start" in functions) == (not options)
    files = [file for file, _ in calls]
    changes = sum(before != after for before, after in pairwise(files))
    numbers = [len(calls), len(set(calls)), len(set(files)), changes]
    assert [int(number) for number in re.findall(r"\d+", summary)] == numbers


def test_request_takes_no_more_calls_and_files_than_is_allowed() -> None:
    """At most 40 calls in 8 files."""
    assert trace("--check").returncode == 0
