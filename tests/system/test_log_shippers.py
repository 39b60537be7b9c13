# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's log in a real rsyslog and a real syslog-ng, with our examples in config/."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import shippers
from harness import wait_until
from load import Load
from shippers import count_lines
from supervision import supervisord

from lonc_gevent.logs import Logs

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Network

COUNT = 300
LEVELS = ("debug", "info", "warning", "error", "critical")


@pytest.mark.parametrize("name", ["rsyslog", "syslog-ng"])
def test_each_level_gets_its_file(name: str, tmp_path: Path) -> None:
    """Every line arrives, parsed, in the file of its level, and as it was, after a rotation too."""
    shipper = shippers.find(name)
    log = tmp_path / "lonc.log"
    log.touch()
    with shipper.run(log, tmp_path) as levels:
        written = write(log, 0)
        wait_until(lambda: sum(count_lines(levels).values()) == COUNT, "all arrive")
        log.rename(tmp_path / "lonc.log.1")
        written += write(log, 1)
        wait_until(lambda: sum(count_lines(levels).values()) == 2 * COUNT, "the others arrive")

        found = {level: (levels / f"{level}.json").read_bytes().splitlines() for level in LEVELS}
        assert "unparsed.log" not in count_lines(levels)
    for level, lines in found.items():
        assert lines == [line for line in written if json.loads(line)["level"] == level]


@pytest.mark.parametrize("name", ["rsyslog", "syslog-ng"])
def test_what_is_no_event_is_kept_apart(name: str, tmp_path: Path) -> None:
    """A line that is not JSON goes to a file of its own, as it is."""
    shipper = shippers.find(name)
    log = tmp_path / "lonc.log"
    log.touch()
    with shipper.run(log, tmp_path) as levels:
        with log.open("ab") as file:
            file.write(b"Fatal Python error: Segmentation fault\n")
        written = write(log, 0)
        wait_until(lambda: sum(count_lines(levels).values()) == COUNT + 1, "all arrive")

        assert (levels / "unparsed.log").read_bytes() == written[0] + b"\n"


def write(log: Path, number: int) -> list[bytes]:
    """Log events of each level, and some that are hard to parse; return the file's lines."""
    with log.open("ab") as file:
        logs = Logs(file.fileno(), level="debug")
        for count in range(COUNT):
            level = LEVELS[count % 5]
            text = ['"quoted" \\ back', "ünïcode \u2028", "tab\tand\nline", "x" * 3000][count % 4]
            logs.logger.__getattribute__(level)(
                "trial", count=count, file=number, error=text, nothing=None, part=[1, {"a": 2.5}]
            )
        assert logs.close(10.0)
    return log.read_bytes().splitlines()


# -- at full size ----------------------------------------------------------------------------

REQUESTS = 200_000
ROTATION = {
    "stdout_logfile_maxbytes=50MB": "stdout_logfile_maxbytes=5MB",
    "stdout_logfile_backups=10": "stdout_logfile_backups=60",
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["rsyslog", "syslog-ng"])
def test_every_line_arrives_once_through_many_rotations(name: str, net: Network) -> None:
    """What supervisord writes of a fast log arrives whole; what the daemon drops is counted."""
    shipper = shippers.find(name)
    net.tables["log"] = {"sample": 1}
    net.add("msul2")
    with supervisord(net, replace=ROTATION) as running:
        running.wait_for("ready")
        with shipper.run(running.logs / "lonc.log", net.directory) as levels:
            load = Load(net.sockets / "msul2", keeping=16, requests=REQUESTS).run()
            running.ctl("stop", "lonc-gevent")
            files = list(running.logs.glob("lonc.log*"))
            sent = lines_of(files)
            wait_until(
                lambda: sum(count_lines(levels).values()) >= sum(sent.values()), "all arrive", 120
            )
            arrived = lines_of(list(levels.iterdir()))
    assert len(files) > 1
    assert load.outcomes == {"ok": REQUESTS}
    assert sent == arrived
    events = Counter[str]()
    for line, times in sent.items():
        event = json.loads(line)
        events[event["event"]] += times
        events["dropped"] += event.get("dropped", 0)
    assert events["transaction"] + events["dropped"] >= REQUESTS


def lines_of(paths: list[Path]) -> Counter[bytes]:
    """Return all lines of these files, and how often each occurs."""
    return Counter(line for path in paths for line in path.read_bytes().splitlines())
