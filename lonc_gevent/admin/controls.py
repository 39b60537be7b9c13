# SPDX-License-Identifier: GPL-2.0-or-later
"""What an administrator can do to a host while the daemon runs, in the words of PgBouncer."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from lonc_gevent.backend.pool import Pool


def pause(pool: Pool) -> None:
    """Let requests wait (`queue_timeout` still holds), and end connections once they are done.

    With no idle connection left every request goes to the queue: the fast path pays nothing.
    """
    pool.paused = True
    pool.close_connections()


def resume(pool: Pool) -> None:
    """Send again, what waits first; a host that was down is tried at once."""
    pool.paused = False
    pool.gate.open()
    if pool.queue:
        pool.grow(monotonic())


def reconnect(pool: Pool) -> None:
    """End connections once they are done, and let the next request make an attempt."""
    pool.gate.open()
    pool.close_connections()


COMMANDS: Final[dict[str, Callable[[Pool], None]]] = {
    "pause": pause,
    "resume": resume,
    "reconnect": reconnect,
}
"""By the last part of the path on the admin socket."""
