# SPDX-License-Identifier: GPL-2.0-or-later
"""Letting what is under way come to its end: for good, or for a restart in place."""

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
"""Seconds between two looks at what is still under way."""

LAST_WORDS = 0.5
"""Seconds that clients have to take their con_lost, after the time is up."""


class Owner(Protocol):
    """What it asks of the hosts."""

    pools: dict[str, Pool]

    def all_pools(self) -> Iterable[Pool]:
        """Return their pools, and those of hosts that are gone and not at rest yet."""


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
        """End all, for good; return how many transactions did not finish in time.

        No new clients; what waits gets con_lost, what is under way finishes within `timeout`
        seconds, or gets con_lost.
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
        """Bring everything to rest for a restart in place; return how many requests got con_lost.

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
        """Give con_lost to all that is still under way; return how many that were."""
        lost = self.clients.under_way
        for pool in self._hosts.all_pools():
            pool.withdraw_queued()
            if pool.state is not PoolState.PAUSED:  # which the next program is to find
                pool.stop()
            pool.kill()
        self._wait(monotonic() + LAST_WORDS, stops=0)
        return lost

    def go_on(self) -> None:
        """Serve all again that `hold` brought to rest."""
        for pool in self._hosts.pools.values():
            pool.reopen()
        self.clients.go_on()
        self._replayer.start()

    def _wait(self, deadline: float, *, stops: int) -> bool:
        """Wait until no transaction is under way and each client has its reply.

        False if the deadline passed, or a stop was requested more than `stops` times.
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
