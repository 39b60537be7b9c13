# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's log: a structlog logger and a bounded writer (contract.md, "Log events").

An event is one call, `logger.info("client_refused", host=..., client_pid=...)`: a fixed name in
snake_case, and fields that never hold a payload, a key, a challenge or a password. The call never
waits and never raises. structlog's global configuration is not used: tests have several loggers.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from .line import bounded_line, ecs_line, error_fields, json_line
from .writer import MAX_BYTES, MAX_LINES, LogWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, FilteringBoundLogger

LEVELS: Final = ("debug", "info", "warning", "error", "critical")


class Logs:
    """A logger, and the writer of its lines to the descriptor `fd`, which the caller closes.

    `logger` is passed to the code that logs. The levels, formats and schemas are those of `[log]`.
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
        json = ecs_line if schema == "ecs" else json_line
        is_console = format == "console" or (format == "auto" and os.isatty(fd))
        render = _console(fd) if is_console else json
        processors: list[Any] = [
            structlog.processors.add_log_level,
            _add_timestamp,
            structlog.processors.ExceptionRenderer(lambda exc_info: error_fields(exc_info[1])),
            lambda _logger, _level, event: bounded_line(event | event.pop("exception", {}), render),
        ]
        report = structlog.wrap_logger(structlog.ReturnLogger(), processors=processors)
        self._writer = LogWriter(
            fd,
            lambda lost: cast("bytes", report.warning("log_lines_dropped", dropped=lost)),
            max_lines=max_lines,
            max_bytes=max_bytes,
        )
        self.logger: FilteringBoundLogger = structlog.wrap_logger(
            cast("Any", _Sink(self._writer.put)),
            processors=processors,
            # The methods of levels below `level` return at once.
            wrapper_class=structlog.make_filtering_bound_logger(level),
            context_class=dict,
        ).bind()

    def __repr__(self) -> str:
        """Return the state."""
        return f"<Logs {self._writer!r}>"

    @property
    def dropped(self) -> int:
        """Lines lost since the start: `lonc_log_lines_dropped_total`."""
        return self._writer.dropped

    def flush(self, timeout: float) -> bool:
        """Block the hub for up to `timeout` seconds; return whether every line was written."""
        return self._writer.flush(timeout)

    def close(self, timeout: float) -> bool:
        """Write the waiting lines and end the writer; return False if that took too long.

        Blocks the hub for up to `timeout` seconds, so it is for the end of the process. Later
        events are lost and counted.
        """
        return self._writer.close(timeout)


class _Sink:
    """The logger that structlog wraps: it calls the method of the level with the finished line."""

    __slots__ = LEVELS

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = put


def _add_timestamp(_logger: object, _level: str, event: EventDict) -> EventDict:
    """Add the time as contract.md defines it; structlog's own omits microseconds that are 0."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    event["timestamp"] = now.replace("+00:00", "Z")
    return event


def _console(fd: int) -> Callable[[dict[str, Any]], bytes]:
    """Return a renderer of lines for people, with colours only if `fd` is a terminal.

    Texts are shown as Python literals, so that a value can neither break the line nor send
    control characters to the terminal.
    """
    renderer = structlog.dev.ConsoleRenderer(
        colors=os.isatty(fd), sort_keys=False, repr_native_str=True
    )
    return lambda fields: renderer(None, fields["level"], dict(fields)).encode() + b"\n"
