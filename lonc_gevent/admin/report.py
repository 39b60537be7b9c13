# SPDX-License-Identifier: GPL-2.0-or-later
"""Output of USR1: the fields of a host's `status` event, and the text report for lonnet's tools.

The report has a line for each host: pid, host, status and last log, separated by tabs. The status
has the words of the original's process titles, which lonnet's tools search for (protocol.md,
section 5).
"""

from __future__ import annotations

import os
import secrets
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.configuration.shard import Shard

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

NOTHING = "-"
"""In place of a missing last log: tools split at tabs and expect four fields."""


def describe(pool: Pool, shard: Shard | None = None) -> dict[str, object]:
    """Return the fields of a host's `status` event."""
    states = [connection.state for connection in pool.connections]
    return {
        "host": pool.host.id,
        "state": pool.state.value,
        "connections": len(states),
        "idle": states.count("idle"),
        "busy": states.count("busy"),
        "queue": len(pool.queue),
        "oldest_wait_ms": round(max(monotonic() - pool.queue.oldest_since, 0.0) * 1000, 3),
        "requests": pool.stats.ok + pool.stats.con_lost,
        "con_lost": pool.stats.con_lost,
        "error": pool.last_error or None,
        "shard": None if shard is None else str(shard),
    }


def text_report(pools: Iterable[Pool]) -> str:
    """Return the report, one line for each host."""
    return "".join(_line(pool) for pool in pools)


def _line(pool: Pool) -> str:
    status = f"Connection count: {len(pool.connections)}"
    if pool.is_down:
        status += f" >>> DEAD !!!! <<< failed attempts: {pool.gate.failures}"
    fields = (str(os.getpid()), pool.host.id, status, pool.last_error or NOTHING)
    return "\t".join(_plain(field) for field in fields) + "\n"


def _plain(text: str) -> str:
    """Return the text with a blank in place of each character that is not printable."""
    return "".join(char if char.isprintable() else " " for char in text)


def write_whole(path: Path, text: str) -> None:
    """Put a file there that is never seen half written. Raises OSError."""
    # A new name of our own: no other user can have put a link there.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    fd = os.open(temporary, _NEW, 0o666)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
