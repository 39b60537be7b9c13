# SPDX-License-Identifier: GPL-2.0-or-later
"""Graceful drain, for a stop or a restart in place."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Protocol

import gevent

from lonc_gevent.backend.pool_state import PoolState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.delayed.replayer import Replayer
    from lonc_gevent.frontend.clients import Clients

    from .signal_queue import SignalQueue

POLL = 0.01
"""Seconds between two checks for transactions in progress."""

LAST_WORDS = 0.5
"""Seconds that clients have to read con_lost after the deadline."""


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
        self._wait(deadline, stops=1)
        lost = self._busy
        for pool in self._hosts.all_pools():
            pool.kill()
        self._wait(monotonic() + LAST_WORDS, stops=1)
        self._replayer.close()
        self.clients.close()
        gevent.sleep(0)
        return lost

    def hold(self, timeout: float) -> int:
        """Drain for a restart in place; return how many requests got con_lost.

        New clients wait in the backlog. Clients go to `Clients.held`: at once if their request
        waits in a queue, which goes with them; else once they have their reply. Requests that lond
        has not answered after `timeout` seconds get con_lost. A request to stop ends this at once.
        """
        self._replayer.stop()
        self.clients.hold()
        lost = 0
        if not self._wait(monotonic() + timeout, stops=0) and not self._signals.stops:
            lost = self._cut()
        self._replayer.close()
        return lost

    def _cut(self) -> int:
        """Answer con_lost to all transactions in progress; return their number."""
        lost = self.clients.under_way
        for pool in self._hosts.all_pools():
            pool.withdraw_queued()
            if pool.state is not PoolState.PAUSED:  # which the next program is to find
                pool.stop()
            pool.kill()
        self._wait(monotonic() + LAST_WORDS, stops=0)
        return lost

    def go_on(self) -> None:
        """Serve again after `hold`."""
        for pool in self._hosts.pools.values():
            pool.reopen()
        self.clients.go_on()
        self._replayer.start()

    def _wait(self, deadline: float, *, stops: int) -> bool:
        """Wait until no transaction is in progress and each client has its reply.

        Returns False if the deadline passed, or a stop was requested more than `stops` times.
        """
        while monotonic() < deadline:
            if self.clients.holding:  # what lond has not got is for the next program
                for pool in self._hosts.all_pools():
                    pool.withdraw_queued()
            gevent.sleep(0)
            if self._signals.stops > stops:
                return False
            if not self.clients.unfinished and not self._busy:
                return True
            gevent.sleep(POLL)
        return False
