# SPDX-License-Identifier: GPL-2.0-or-later
"""Events in the names of the Elastic Common Schema."""

from __future__ import annotations

import re
from pathlib import Path

from lonc_gevent.logs.ecs import NAMES, renamed

CATALOGUE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "log-events.md"


def test_names_values_and_order() -> None:
    """Known fields get the schema's names, others the prefix `lonc.`; durations are nanoseconds."""
    made = renamed(
        {
            "timestamp": "t",
            "level": "info",
            "event": "transaction",
            "host": "msul2",
            "duration_ms": 1.5,
            "request_bytes": 7,
            "where": ["a.py:1 f", "b.py:2 g"],
        }
    )

    assert list(made)[:3] == ["@timestamp", "log.level", "event.action"]
    assert made["event.action"] == "transaction"
    assert made["lonc.host"] == "msul2"
    assert made["event.duration"] == 1_500_000
    assert made["source.bytes"] == 7
    assert made["error.stack_trace"] == "a.py:1 f\nb.py:2 g"
    assert made["ecs.version"]


def test_names_of_the_schema_are_unique() -> None:
    assert len(set(NAMES.values())) == len(NAMES)


def test_the_reference_lists_the_same_names() -> None:
    text = CATALOGUE.read_text(encoding="utf-8").partition("## Elastic Common Schema")[2]
    rows = re.findall(r"^\| (\w+) \| ([@\w.]+) \|$", text, re.MULTILINE)

    assert dict(rows) == NAMES
