# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's log: structlog in front, the bounded writer behind (contract.md, "Log events").

An event is one call, `logger.info("client_refused", host=..., client_pid=...)`: a fixed snake_case
name, then fields; never a payload, a key, a challenge or a password. It never waits and never
raises. structlog itself is not configured: a `Logs` makes its own logger, so tests may have many.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import structlog

from .line import console_line, ecs_line, error_fields, json_line
from .writer import MAX_BYTES, MAX_LINES, LogWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, FilteringBoundLogger

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
FORMATS: Final = ("json", "console")
SCHEMAS: Final = ("plain", "ecs")


class LogSettings(Protocol):
    """What the log needs of the `[log]` section."""

    @property
    def level(self) -> str:
        """One of `LEVELS`."""

    @property
    def format(self) -> str:
        """One of `FORMATS`."""

    @property
    def schema(self) -> str:
        """One of `SCHEMAS`: the names of the fields in JSON."""


class Logs:
    """A logger and the writer behind it, on the descriptor `fd`, which stays the caller's.

    Hand `logger` to the rooms that log. Raises ValueError for a level, a format or a schema that
    is none.
    """

    def __init__(
        self,
        fd: int,
        *,
        level: str = "info",
        format: str = "json",  # noqa: A002 - the key's name in the configuration
        schema: str = "plain",
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        if level not in LEVELS:
            raise ValueError(f"log level {level!r} is none of {', '.join(LEVELS)}")
        if format not in FORMATS:
            raise ValueError(f"log format {format!r} is none of {', '.join(FORMATS)}")
        if schema not in SCHEMAS:
            raise ValueError(f"log schema {schema!r} is none of {', '.join(SCHEMAS)}")
        in_json = ecs_line if schema == "ecs" else json_line
        line = in_json if format == "json" else _console(fd)
        now = _Clock()
        self._writer = LogWriter(
            fd,
            lambda lost: line(now(), "warning", "log_lines_dropped", {"dropped": lost}),
            max_lines=max_lines,
            max_bytes=max_bytes,
        )
        self.logger: FilteringBoundLogger = structlog.wrap_logger(
            cast("Any", _Sink(self._writer.put)),
            processors=[_Renderer(now, line)],
            # A level that is off costs a call that returns at once.
            wrapper_class=structlog.make_filtering_bound_logger(level),
            context_class=dict,
        ).bind()

    def __repr__(self) -> str:
        """State for people and tests."""
        return f"<Logs {self._writer!r}>"

    @property
    def dropped(self) -> int:
        """Lines lost since the start: `lonc_log_lines_dropped_total`."""
        return self._writer.dropped

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds, hub and all, until every line is out; False if not."""
        return self._writer.flush(timeout)

    def close(self, timeout: float) -> bool:
        """Write what waits, for at most `timeout` seconds, and end; False if the reader is stuck.

        It holds up the whole hub: the last thing to do. Events after it are lost, and counted.
        """
        return self._writer.close(timeout)


def open_logs(settings: LogSettings, fd: int = 1) -> Logs:
    """Open the log as `[log]` wants it, on stdout unless told otherwise."""
    return Logs(fd, level=settings.level, format=settings.format, schema=settings.schema)


class _Renderer:
    """structlog's processor: an event's dict -> its line."""

    def __init__(
        self, now: Callable[[], str], line: Callable[[str, str, str, EventDict], bytes]
    ) -> None:
        self._now = now
        self._line = line

    def __call__(self, _sink: object, level: str, event_dict: EventDict) -> bytes:
        event = event_dict.pop("event", "")
        if "exc_info" in event_dict:
            event_dict.update(error_fields(_raised(event_dict.pop("exc_info"))))
        return self._line(self._now(), level, event, event_dict)


class _Sink:
    """What structlog calls with a finished line: a method a level, and all are the same."""

    __slots__ = LEVELS

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = put


def _raised(exc_info: object) -> BaseException | None:
    """Find what structlog's `exc_info` means: itself, the one in a triple, or the current one."""
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    if isinstance(exc_info, BaseException):
        return exc_info
    return sys.exception() if exc_info else None


class _Clock:
    """Tells the time as contract.md wants it; the text of a second is made once."""

    __slots__ = ("_second",)

    def __init__(self) -> None:
        self._second = (-1, "")  # one tuple, replaced whole: two threads ask

    def __call__(self) -> str:
        second, rest = divmod(time.time_ns(), 1_000_000_000)
        known, text = self._second
        if known != second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return f"{text}.{rest // 1000:06d}Z"


def _console(fd: int) -> Callable[[str, str, str, EventDict], bytes]:
    """Lines for people; in colour only if a terminal will show them."""
    renderer = structlog.dev.ConsoleRenderer(colors=os.isatty(fd), sort_keys=False)

    def render(shape: dict[str, Any]) -> str:
        return renderer(None, shape["level"], shape)

    def line(timestamp: str, level: str, event: str, fields: EventDict) -> bytes:
        return console_line(timestamp, level, event, fields, render)

    return line
