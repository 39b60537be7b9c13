# SPDX-License-Identifier: GPL-2.0-or-later
"""Events for what would be printed to stderr: unhandled errors, foreign loggers, warnings.

`unhandled_error` has the exception's type and place, and its text only if it is of this package or
of the system, as any other text may hold a payload. `source` is where it was raised: main, thread,
greenlet, or unraisable (a `__del__`, a callback). `foreign_log` is a record of Python's `logging`.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from .line import error_fields

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from gevent.hub import Hub
    from structlog.typing import FilteringBoundLogger

    from . import Logs

MAX_FOREIGN_TEXT: Final = 512  # characters
LAST_LINE_TIMEOUT: Final = 1.0  # seconds for writing the error that ends the process


def capture_hub_errors(hub: Hub, logger: FilteringBoundLogger) -> Callable[[], None]:
    """Log errors that no greenlet caught as events, in place of a traceback on stderr.

    Uses what gevent documents: `handle_error` set on the hub, and an `exception_stream` of None, so
    that the hub prints nothing. The hub still raises an error that must end the process in the main
    greenlet. Returns a function that undoes it.
    """
    handle_error, stream = hub.handle_error, hub.exception_stream

    def log_error(
        context: object,
        type: type[BaseException] | None,  # noqa: A002 - gevent's name for it
        value: BaseException | str | None,
        tb: TracebackType | None,
    ) -> None:
        if type is not None and not issubclass(type, hub.NOT_ERROR):
            _unhandled(logger, "greenlet", type, value, tb)
        handle_error(context, type, value, tb)

    def undo() -> None:
        del hub.handle_error
        hub.exception_stream = stream

    # gevent documents this assignment.
    hub.handle_error = log_error  # type: ignore[method-assign]
    hub.exception_stream = None
    return undo


def capture_foreign(logs: Logs) -> Callable[[], None]:
    """Log what excepthooks, `logging` and `warnings` would print to stderr as events.

    To be called once, early, before foreign modules add handlers of their own. Returns a function
    that undoes it.
    """
    logger = logs.logger

    def on_main(kind: type[BaseException], value: BaseException, tb: TracebackType | None) -> None:
        _unhandled(logger, "main", kind, value, tb)
        logs.flush(LAST_LINE_TIMEOUT)  # the process ends right after it

    def on_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            _unhandled(logger, "thread", args.exc_type, args.exc_value, args.exc_traceback)

    def on_unraisable(args: sys.UnraisableHookArgs) -> None:
        _unhandled(logger, "unraisable", args.exc_type, args.exc_value, args.exc_traceback)

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook

    def undo() -> None:
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        root.setLevel(level)
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks

    sys.excepthook, threading.excepthook, sys.unraisablehook = on_main, on_thread, on_unraisable
    root.handlers[:] = [_ForeignHandler(logger)]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    return undo


class _ForeignHandler(logging.Handler):
    """Logs the records of Python's `logging` as `foreign_log` events."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()[:MAX_FOREIGN_TEXT].strip()
        except Exception as error:  # noqa: BLE001 - a foreign format string may not fit its values
            text = f"<unprintable: {type(error).__name__}>"
        raised = record.exc_info[1] if record.exc_info else None
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        self._logger.log(
            level, "foreign_log", logger=record.name, text=text, **error_fields(raised)
        )


def _unhandled(
    logger: FilteringBoundLogger,
    source: str,
    kind: type[BaseException],
    value: Any,
    tb: TracebackType | None,
) -> None:
    """Log an error. Its value may be None or a text when C code reports it."""
    fields = (
        error_fields(value, tb) if isinstance(value, BaseException) else {"error": kind.__name__}
    )
    level = logging.CRITICAL if source == "main" else logging.ERROR
    logger.log(level, "unhandled_error", source=source, **fields)
