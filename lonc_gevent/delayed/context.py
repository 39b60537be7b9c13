# SPDX-License-Identifier: GPL-2.0-or-later
"""What the scans and the replay of all hosts share: the spool, the threads for it, and the log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from gevent.threadpool import ThreadPool

from lonc_gevent.perm_log import perm_log_of

from .files import reason_of
from .requests import HIDDEN, shown_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.configuration.settings import Settings
    from lonc_gevent.errors import SpoolError

    from .spool import Spool

THREADS: Final = 2
"""One for the scan of the directory, one for the files whose turn has come."""

TROUBLE_INTERVAL: Final = 60.0
"""Least seconds between two events about the same trouble."""

_T = TypeVar("_T")


class ReplayContext:
    """The spool of a daemon, the settings of its replay, threads, and log events.

    scan_soon: requests a scan of the directory
    """

    def __init__(
        self,
        spool: Spool,
        logger: FilteringBoundLogger,
        settings: Settings,
        scan_soon: Callable[[], None],
    ) -> None:
        self.spool = spool
        self.log = logger
        self.perm_log = perm_log_of(settings)
        self.max_attempts = settings.delayed.max_attempts
        self.scan_soon = scan_soon
        self._threads = ThreadPool(THREADS)
        self._troubles: dict[str, float] = {}

    def in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call a function that blocks in a thread; return its result or raise its exception."""

        # Caught in the thread, where gevent would report it as unhandled.
        def run() -> tuple[list[_T], Exception | None]:
            try:
                return [function(*arguments)], None
            except Exception as error:  # noqa: BLE001 - raised again by the caller
                return [], error

        result, error = self._threads.apply(run)
        if error is not None:
            raise error
        return result[0]

    def trouble(self, event: str, error: str | OSError | SpoolError) -> None:
        """Log a trouble with the directory, each event at most once a minute."""
        now = time.monotonic()
        if now < self._troubles.get(event, 0.0):
            return
        self._troubles[event] = now + TROUBLE_INTERVAL
        reason = error if isinstance(error, str) else reason_of(error)
        self.log.error(event, directory=str(self.spool.path), error=reason)

    def forget_troubles(self) -> None:
        """Log the next trouble at once, as the directory can be used again."""
        self._troubles.clear()

    def log_quarantined(
        self, name: str, host: str, reason: str, attempts: int = 0, *, served: bool = True
    ) -> None:
        """Log that a file was quarantined, and why. served: whether the host is served here."""
        fields = {"attempts": attempts} if attempts else {}
        shown = shown_name(name)
        # In a name of another shape, the text in the place of the host id may be of the request.
        if shown == HIDDEN and not served:
            host = ""
        self.log.warning(
            "delayed_quarantined", host=host or None, file=shown, reason=reason, **fields
        )
