# SPDX-License-Identifier: GPL-2.0-or-later
"""A host over a restart in place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import gevent
import pytest
from hosts import host_settings

from lonc_gevent.backend.pool import Pool
from lonc_gevent.backend.tls import Credentials
from lonc_gevent.backend.transaction import QueueBudget, Transaction, never
from lonc_gevent.logs import Logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def make_pool() -> Iterator[Callable[[], Pool]]:
    """Give a maker of pools whose log lines are dropped."""
    fd = os.open(os.devnull, os.O_WRONLY)
    logs = Logs(fd)
    settings = host_settings("msul2", domain="dom", address="127.0.0.1", port=1)

    def make() -> Pool:
        return Pool(
            settings,
            gevent.get_hub(),
            logs.logger,
            credentials=Credentials(),
            budget=QueueBudget(1 << 20),
        )

    yield make
    logs.close(1.0)
    os.close(fd)


def test_pause_of_a_restart_does_not_count_as_a_wait_in_the_queue(
    make_pool: Callable[[], Pool],
) -> None:
    """A request that had waited for almost queue_timeout is not ended by the restart itself."""
    before, after = make_pool(), make_pool()
    timeout = before.host.pool.queue_timeout
    submitted, pause = 1000.0, 5.0
    waiting = Transaction(b"ping\n", None, submitted)
    before.queue.put(waiting, 10)

    owned = after.restore(before.snapshot({id(waiting): 7}), pause)
    owned[7].is_abandoned = never

    assert after.queue.oldest_since == submitted + pause
    after.run_maintenance(submitted + timeout + pause / 2)
    assert len(after.queue) == 1
    after.run_maintenance(submitted + timeout + pause)
    assert len(after.queue) == 0
    after.stop()
