# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's log in a real rsyslog, parsed by mmjsonparse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aggregator
import pytest
from harness import wait_until

from lonc_gevent.logs import Logs

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 300


def test_each_level_gets_its_file(tmp_path: Path) -> None:
    """Every line arrives, parsed, in the file of its level, and as it was; so after a rotation."""
    program = aggregator.find()
    if program is None:
        pytest.skip("there is no rsyslogd here (Debian's package is rsyslog)")
    log = tmp_path / "lonc.log"
    log.touch()
    with aggregator.rsyslogd(program, log, tmp_path) as levels:
        written = write(log, 0)
        wait_until(lambda: sum(aggregator.lines(levels).values()) == COUNT, "all are there")
        log.rename(tmp_path / "lonc.log.1")
        written += write(log, 1)
        wait_until(lambda: sum(aggregator.lines(levels).values()) == 2 * COUNT, "those, too")

        found = {
            level: (levels / f"{level}.json").read_bytes().splitlines()
            for level in ("debug", "info", "warning", "error", "critical")
        }
        assert "unparsed.log" not in aggregator.lines(levels)
    for level, lines in found.items():
        assert lines == [line for line in written if json.loads(line)["level"] == level]


def write(log: Path, number: int) -> list[bytes]:
    """Log events of each level, and some that are hard to parse; return their lines."""
    with log.open("ab") as file:
        logs = Logs(file.fileno(), level="debug")
        for count in range(COUNT):
            level = ("debug", "info", "warning", "error", "critical")[count % 5]
            text = ['"quoted" \\ back', "ünïcode \u2028", "tab\tand\nline", "x" * 3000][count % 4]
            logs.logger.__getattribute__(level)(
                "trial", count=count, file=number, error=text, nothing=None, part=[1, {"a": 2.5}]
            )
        assert logs.close(10.0)
    return log.read_bytes().splitlines()
