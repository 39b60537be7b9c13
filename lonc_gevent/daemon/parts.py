# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts that the daemon can serve without: if one fails it is reported, and tried again.

At a first start each part is required, as an administrator is there to read the error. Later
nothing but the configuration is a reason to end.
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
    """The parts by name, and the errors of those that are missing.

    missing   name -> error
    required  whether a part that fails is an error of the caller
    """

    def __init__(self, logger: FilteringBoundLogger) -> None:
        self.log = logger
        self.required = True
        self.missing: dict[str, str] = {}
        self._actions: dict[str, Callable[[], object]] = {}
        self._watched: dict[str, tuple[Callable[[], bool], Callable[[], object]]] = {}
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Parts missing: {', '.join(self.missing) or 'none'}>"

    def get(
        self,
        name: str,
        action: Callable[[], object],
        is_lost: Callable[[], bool] | None = None,
    ) -> None:
        """Call `action`. If it fails, log that, and call it again later.

        is_lost: if `check` finds that it returns True, `action` is called anew

        While parts are `required` it raises what `action` raises.
        """
        if is_lost is not None:
            self._watched[name] = is_lost, action
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
        """Call `action` every RETRY_INTERVAL until it succeeds; `error` is why it failed so far."""
        self.missing[name] = error
        self._actions[name] = action
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def check(self) -> None:
        """Get the parts anew that were lost."""
        for name, (is_lost, action) in self._watched.items():
            if name not in self.missing and is_lost():
                self.log.error("part_lost", part=name)
                self.get(name, action)

    def _run(self) -> None:
        while self._actions:
            gevent.sleep(RETRY_INTERVAL)
            for name, action in tuple(self._actions.items()):
                try:
                    action()
                except _FAILURES as error:
                    self.missing[name] = _reason(error)
                except Exception:  # the top of the greenlet, which must try the others
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
