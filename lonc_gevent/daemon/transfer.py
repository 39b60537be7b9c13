# SPDX-License-Identifier: GPL-2.0-or-later
"""The state of hosts, clients, delayed requests, charts and counters over a restart in place.

`snapshot` only reads: no greenlet ends, and no other one runs between it and the exec. If the exec
fails, all go on. `restore` makes the same objects in the next program.
"""

from __future__ import annotations

import os
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from msgspec.structs import replace

from lonc_gevent.backend.transaction import Transaction
from lonc_gevent.protocol.lines import CON_LOST

from .handover import BASIC, VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lonc_gevent.admin.reporter import Reporter
    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.delayed.replayer import Replayer
    from lonc_gevent.frontend.client_connection import ClientSnapshot
    from lonc_gevent.frontend.clients import Clients

    from .handover import Handover
    from .hosts import Hosts
    from .loop_watchdog import Watchdog


class Transfer:
    """The objects whose state is transferred."""

    def __init__(
        self,
        hosts: Hosts,
        clients: Clients,
        replayer: Replayer,
        reporter: Reporter,
        watchdog: Watchdog,
    ) -> None:
        self._hosts = hosts
        self._clients = clients
        self._replayer = replayer
        self._reporter = reporter
        self._watchdog = watchdog

    def snapshot(self, handover: Handover, *, whole: bool) -> Handover:
        """Return the handover with the state added; of a basic one that is the clients only."""
        served = list(self._clients.served())
        found = (client.snapshot(whole=whole) for client in served)
        clients = tuple(client for client in found if client is not None)
        if not whole:
            return replace(handover, version=BASIC, clients=clients)
        delayed = self._replayer.under_way
        owners = {id(each.transaction): -1 - number for number, each in enumerate(delayed)}
        owners |= {id(client.transaction): client.stream.fd for client in served}
        return replace(
            handover,
            version=VERSION,
            at=monotonic(),
            clients=clients,
            pools=tuple(pool.snapshot(owners) for pool in self._hosts.all_pools()),
            delayed=tuple(each.snapshot() for each in delayed),
            credentials=self._hosts.credentials.fingerprint,
            history=self._reporter.history.snapshot(),
            clients_denied=self._clients.denied,
            log_lines_dropped=self._reporter.vitals.dropped(),
            hub_holds=self._watchdog.holds,
            hub_longest_ms=self._watchdog.longest_ms,
        )

    def restore(self, inherited: Handover) -> None:
        """Make the pools, and go on with what was under way. Raises as `Hosts.make_pools`."""
        owned = self._hosts.make_pools(inherited)
        for number, state in enumerate(inherited.delayed):
            if -1 - number in owned:
                pool, transaction = owned[-1 - number]
                self._replayer.restore(pool, state, transaction)
        for client in inherited.clients:
            self._restore_client(client, owned)
        if inherited.history is not None:
            self._reporter.history.restore(inherited.history)
        self._clients.access.denied = inherited.clients_denied
        self._watchdog.holds = inherited.hub_holds
        self._watchdog.longest_ms = inherited.hub_longest_ms

    def _restore_client(
        self, client: ClientSnapshot, owned: Mapping[int, tuple[Pool, Transaction]]
    ) -> None:
        """Serve a client on. If its host is not served any more, it is disconnected."""
        pool: Pool | None
        transaction: Transaction | None
        pool, transaction = owned.get(client.fd, (self._hosts.pools.get(client.host), None))
        unsent = client.unsent
        if client.is_owner and transaction is None:  # its request may have run
            unsent = CON_LOST
        if unsent:
            transaction = Transaction(b"", None, 0.0, reply=unsent)
        if pool is not None:
            self._clients.serve(pool, client.fd, client.unread, transaction)
            return
        with suppress(OSError):  # it may have disconnected
            if unsent or client.unread:
                os.write(client.fd, unsent or CON_LOST)
        os.close(client.fd)
