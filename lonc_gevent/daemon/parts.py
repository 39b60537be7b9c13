# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts that the daemon can do without for a while: reported, and tried again until they are had.

At a first start each of them is required: an error then is one for the administrator, who is
there. After a restart in place nothing but the configuration is a reason to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import gevent

from lonc_gevent.errors import LoncError

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

_FAILURES: Final = (OSError, LoncError, RuntimeError)
"""RuntimeError is what Python raises if no thread can be started."""

RETRY_INTERVAL: Final = 5.0
"""Seconds between two attempts to get what is missing."""


class Parts:
    """Gets parts, by name, and knows which are missing.

    missing   name -> error
    required  whether the first attempt must succeed
    """

    def __init__(self, logger: FilteringBoundLogger) -> None:
        self.log = logger
        self.required = True
        self.missing: dict[str, str] = {}
        self._actions: dict[str, Callable[[], object]] = {}
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Parts missing: {', '.join(self.missing) or 'none'}>"

    def get(self, name: str, action: Callable[[], object]) -> None:
        """Call `action`. If it fails, log that, and try again later.

        While parts are `required` it raises what `action` raises.
        """
        try:
            action()
        except _FAILURES as error:
            if self.required:
                raise
            reason = _reason(error)
            self.log.error("part_unavailable", part=name, error=reason)  # noqa: TRY400 - no fault of ours
            self.try_again(name, reason, action)
        else:
            self._found(name)

    def try_again(self, name: str, error: str, action: Callable[[], object]) -> None:
        """Call `action` every RETRY_INTERVAL until it succeeds; `error` says why it has not yet."""
        self.missing[name] = error
        self._actions[name] = action
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        while self._actions:
            gevent.sleep(RETRY_INTERVAL)
            for name, action in tuple(self._actions.items()):
                try:
                    action()
                except _FAILURES as error:
                    self.missing[name] = _reason(error)
                except Exception:  # the top of the greenlet: the others are to be tried
                    self.log.exception("part_failed", part=name)
                else:
                    self._found(name)
        self._greenlet = None

    def _found(self, name: str) -> None:
        self._actions.pop(name, None)
        if self.missing.pop(name, None) is not None:
            self.log.info("part_available", part=name)


def _reason(error: Exception) -> str:
    return str(error).replace("\n", "; ")
