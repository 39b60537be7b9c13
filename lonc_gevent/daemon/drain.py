# SPDX-License-Identifier: GPL-2.0-or-later
"""Graceful drain, for a stop or a restart in place."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Protocol

import gevent

from lonc_gevent.backend.pool_state import PoolState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.delayed.replayer import Replayer
    from lonc_gevent.frontend.clients import Clients

    from .signal_queue import SignalQueue

POLL = 0.01
"""Seconds between two checks for transactions in progress."""

SETTLE_TIMEOUT = 2.0
"""Seconds for the removal of the files of answered delayed requests, and for the log, before a
restart in place. Everything else is served meanwhile."""

LAST_WORDS = 0.5
"""Seconds that clients have to read con_lost after the deadline."""

_UNHELD = (PoolState.PAUSED, PoolState.STOPPING)


class Owner(Protocol):
    """The part of the hosts that a drain needs."""

    pools: dict[str, Pool]

    def all_pools(self) -> Iterable[Pool]:
        """Return the pools of all hosts, and of removed ones that are not idle yet."""


class Drain:
    """Ends transactions in order. A further request to stop ends the wait."""

    def __init__(
        self,
        clients: Clients,
        hosts: Owner,
        signals: SignalQueue,
        replayer: Replayer,
    ) -> None:
        self.clients = clients
        self._replayer = replayer
        self._hosts = hosts
        self._signals = signals
        self._held: list[Pool] = []

    def __repr__(self) -> str:
        return f"<Drain {self.clients.under_way} clients and {self._busy} connections to go>"

    @property
    def _busy(self) -> int:
        return sum(pool.busy for pool in self._hosts.all_pools())

    def stop(self, timeout: float) -> int:
        """Drain for a stop; return how many transactions did not finish in time.

        No new client is accepted. Queued requests get con_lost at once, transactions in progress
        if they do not finish within `timeout` seconds.
        """
        deadline = monotonic() + timeout
        self._replayer.stop()
        self.clients.stop_listening()
        for pool in self._hosts.all_pools():
            pool.stop()
        self._wait(deadline, stops=1, is_done=self._is_finished)
        lost = self._busy
        for pool in self._hosts.all_pools():
            pool.kill()
        self._wait(monotonic() + LAST_WORDS, stops=1, is_done=self._is_finished)
        self._replayer.close()
        self.clients.close()
        gevent.sleep(0)
        return lost

    def settle(self, is_logged: Callable[[], bool]) -> None:
        """Let the work on files end, while everything is served, before a restart in place.

        is_logged: returns whether all log lines are written.
        """
        self._replayer.stop()
        deadline = monotonic() + SETTLE_TIMEOUT
        self._wait(deadline, stops=0, is_done=lambda: self._replayer.is_settled and is_logged())

    def hold(self, timeout: float) -> int:
        """Let transactions end that the next program cannot take over; return how many did not.

        Requests that are not sent stay in the queues. Those that lond has not answered after
        `timeout` seconds get con_lost. Ends at once on a command to stop.
        """
        self._replayer.stop()
        self.clients.hold()
        self._held = [pool for pool in self._hosts.all_pools() if pool.state not in _UNHELD]
        for pool in self._held:
            pool.pause()
        lost = 0
        is_answered = self._wait(monotonic() + timeout, stops=0, is_done=self._is_answered)
        if not (is_answered or self._signals.stops):
            lost = self._busy
            for pool in self._hosts.all_pools():
                pool.kill()
            self._wait(monotonic() + LAST_WORDS, stops=0, is_done=self._is_answered)
        self._replayer.close()
        return lost

    def go_on(self) -> None:
        """Go on after `settle` or `hold`."""
        for pool in self._held:
            if pool.state is PoolState.PAUSED:
                pool.resume()
        self._held = []
        self.clients.go_on()
        self._replayer.start()

    def _is_answered(self) -> bool:
        """Whether no transaction is in progress, and each reply is written."""
        return not (self._busy or self.clients.is_writing)

    def _is_finished(self) -> bool:
        return not (self._busy or self.clients.unfinished)

    def _wait(self, deadline: float, *, stops: int, is_done: Callable[[], bool]) -> bool:
        """Wait until `is_done`; return False if the deadline passed.

        Returns False as well if a stop was requested more than `stops` times.
        """
        while monotonic() < deadline:
            gevent.sleep(0)
            if self._signals.stops > stops:
                return False
            if is_done():
                return True
            gevent.sleep(POLL)
        return False
