# SPDX-License-Identifier: GPL-2.0-or-later
"""A `lonc-gevent` that measures for how long a greenlet holds the event loop.

    python -m sliced_daemon FILE run --config FILE

FILE receives the longest CPU time between two switches of greenlets, in seconds; the test removes
it to begin anew. CPU time, so that a busy machine plays no part.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import thread_time
from typing import Any

import greenlet

from lonc_gevent.cli import main

LEAST = 0.002
"""Seconds; shorter slices are not of interest, and each write is a slice itself."""


def trace_switches(path: Path) -> None:
    """Write the longest slice from now on to the file."""
    longest, began = 0.0, thread_time()

    def switched(event: str, _greenlets: Any) -> None:
        nonlocal longest, began
        if event in ("switch", "throw"):
            now = thread_time()
            if now - began > LEAST and (now - began > longest or not path.exists()):
                longest = now - began
                path.write_text(f"{longest:.6f}")
            began = thread_time()

    greenlet.settrace(switched)


if __name__ == "__main__":
    FILE = Path(sys.argv.pop(1))
    trace_switches(FILE)
    main()
