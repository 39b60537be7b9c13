# SPDX-License-Identifier: GPL-2.0-or-later
"""The log on a real pipe: structlog and the writer together."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from lonc_gevent.logs import LEVELS, Logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE = 10.0


class Piped:
    """A log on a pipe, and the lines written to it."""

    def __init__(self, **settings: Any) -> None:
        self.read_end, self.write_end = os.pipe()
        self.logs = Logs(self.write_end, **settings)

    def text(self) -> str:
        """Close the log and read all of it."""
        assert self.logs.close(DEADLINE)
        os.close(self.write_end)
        with os.fdopen(self.read_end, "rb") as pipe:
            return pipe.read().decode()

    def events(self) -> list[dict[str, Any]]:
        """Close the log and read its JSON lines."""
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def piped() -> Iterator[Piped]:
    """Give a JSON log at level info."""
    log = Piped()
    yield log
    log.logs.close(DEADLINE)


def test_an_event_is_one_json_line(piped: Piped) -> None:
    """Keys are in the contract's order and the time is UTC with microseconds and a Z."""
    before = datetime.now(UTC)
    piped.logs.logger.info("request_done", host="msul1", verb=b"ping", duration_ms=1.5, error=None)
    (event,) = piped.events()

    assert list(event) == ["timestamp", "level", "event", "host", "verb", "duration_ms"]
    assert list(event.values())[1:] == ["info", "request_done", "msul1", "ping", 1.5]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["timestamp"])
    written = datetime.fromisoformat(event["timestamp"])
    assert abs(written - before) < timedelta(seconds=5)


@pytest.mark.parametrize("level", LEVELS)
def test_events_below_the_level_are_not_logged(level: str) -> None:
    """Only the configured level and those above it are logged, each with its name."""
    log = Piped(level=level)
    for name in LEVELS:
        getattr(log.logs.logger, name)("tried")

    expected = list(LEVELS[LEVELS.index(level) :])
    assert [event["level"] for event in log.events()] == expected


def test_bound_fields_come_before_the_events_own(piped: Piped) -> None:
    """The fields that a logger was bound to are in each of its events."""
    piped.logs.logger.bind(host="msul1", connection=3).warning("connection_lost", error="stale")
    (event,) = piped.events()

    assert list(event.items())[3:] == [("host", "msul1"), ("connection", 3), ("error", "stale")]


def test_exc_info_is_logged_as_type_and_place(piped: Piped) -> None:
    """`exception` logs type and place, never the text of a foreign exception."""
    try:
        raise KeyError("canary-payload")  # noqa: TRY301 - any foreign exception
    except KeyError as error:
        piped.logs.logger.exception("keeper_failed", host="msul1")
        piped.logs.logger.warning("keeper_failed", exc_info=error)
        piped.logs.logger.warning("keeper_failed", exc_info=(KeyError, error, None))
    piped.logs.logger.error("keeper_failed", exc_info=False)
    *events, last = piped.events()

    assert "canary" not in str(events)
    assert [event["error"] for event in events] == ["KeyError"] * 3
    assert events[0]["where"][0].startswith("test_logs.py:")
    assert "error" not in last


def test_the_console_format_is_one_line_per_event_without_control_characters() -> None:
    log = Piped(format="console")
    log.logs.logger.info("ready", hosts=3, text="one\ntwo \x1b[31mred")
    text = log.text()

    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "[info     ] ready" in text
    assert "hosts=3" in text


def test_format_auto_is_json_in_a_pipe() -> None:
    log = Piped(format="auto")
    log.logs.logger.info("ready", hosts=3)

    assert log.events()[0]["event"] == "ready"


@pytest.mark.parametrize("format", ["console", "auto"])
def test_the_console_format_has_colours_on_a_terminal(format: str) -> None:  # noqa: A002
    master, slave = os.openpty()
    logs = Logs(slave, format=format)
    logs.logger.info("ready")
    assert logs.close(DEADLINE)

    assert b"\x1b[" in os.read(master, 4096)
    os.close(master)
    os.close(slave)


def test_the_schema_ecs_renames_fields() -> None:
    log = Piped(schema="ecs")
    log.logs.logger.info("ready", hosts=3)

    event = json.loads(log.text())

    assert list(event)[:3] == ["@timestamp", "log.level", "event.action"]
    assert (event["event.action"], event["lonc.hosts"]) == ("ready", 3)


def test_greenlets_run_and_log_while_the_reader_is_frozen(tmp_path: Path) -> None:
    """While the reading process is stopped, no greenlet is delayed; lost lines are reported."""
    read_end, write_end = os.pipe()
    with (tmp_path / "out").open("wb") as out:
        reader = subprocess.Popen(["cat"], stdin=read_end, stdout=out)
    os.close(read_end)
    logs = Logs(write_end, max_lines=1000)
    gaps: list[float] = []

    def ticker() -> None:
        last = time.monotonic()
        for _ in range(100):
            gevent.sleep(0.002)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    def talker() -> None:
        for number in range(100):
            for part in range(100):
                logs.logger.info("tried", number=number * 100 + part, text="x" * 100)
            gevent.sleep(0)

    reader.send_signal(signal.SIGSTOP)
    gevent.joinall([gevent.spawn(ticker), gevent.spawn(talker)], raise_error=True, timeout=DEADLINE)
    reader.send_signal(signal.SIGCONT)
    assert logs.flush(DEADLINE)
    logs.logger.info("tried", number=10_000)
    assert logs.close(DEADLINE)
    os.close(write_end)
    assert reader.wait(DEADLINE) == 0

    assert len(gaps) == 100
    assert max(gaps) < 1
    events = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    numbers = [event["number"] for event in events if event["event"] == "tried"]
    reports = [event for event in events if event["event"] == "log_lines_dropped"]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 10_000
    assert logs.dropped == sum(event["dropped"] for event in reports) == 10_001 - len(numbers)
    assert logs.dropped > 5000
    assert {event["level"] for event in reports} == {"warning"}


def test_repr_shows_the_state(piped: Piped) -> None:
    assert re.fullmatch(r"<Logs <LogWriter fd=\d+ open .*>>", repr(piped.logs))
