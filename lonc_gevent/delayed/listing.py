# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of `lonc-gevent delayed list`: one for each file, waiting or in quarantine."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

from lonc_gevent.errors import UnsealError
from lonc_gevent.protocol.lines import encrypted_part, verb

from .requests import QUARANTINE, Verdict, host_of, is_housekeeping
from .seal import is_sealed, sealed_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from .spool import Spool

MAX_SHOWN = 16_777_216
"""Bytes of a request whose host is not served here, at most."""


class Item(NamedTuple):
    """One file.

    age      seconds since it was last written
    host     the host id in its name, "" for none
    verb     of the request; of one that is to be encrypted, the verb after `encrypt:`
    size     bytes of the request; of a file that cannot be opened, those on disk
    state    waiting, sealed (waiting), settling, unfinished, unreadable, or `quarantined: REASON`
    uid      the user that owns it
    request  the request line in clear, None if it cannot be read
    """

    name: str
    age: float
    host: str
    verb: str
    size: int
    attempts: int
    state: str
    uid: int
    request: bytes | None

    @property
    def quarantined(self) -> str:
        """The reason for which it is in quarantine, "" if it is not."""
        _, _, reason = self.state.partition("quarantined: ")
        return reason


def items(
    spool: Spool, known: AbstractSet[str], limits: Mapping[str, int], now: float
) -> Iterator[Item]:
    """Yield all files: those that wait in the order in which they are sent, then the others.

    known, limits, now: as for a scan. Raises OSError, SpoolError.
    """
    directory = spool.directory
    waiting = sorted(e.name for e in directory.entries() if not is_housekeeping(e.name))
    for names, quarantined in (
        (waiting, False),
        (sorted(entry.name for entry in directory.entries(QUARANTINE)), True),
    ):
        for name in names:
            try:
                yield _item(spool, name, known, limits, now, quarantined=quarantined)
            except FileNotFoundError:
                continue  # it has been sent in the meantime


def look_up(
    spool: Spool, name: str, known: AbstractSet[str], limits: Mapping[str, int], now: float
) -> Item:
    """Return one file's row. Raises FileNotFoundError if it does not exist, OSError."""
    return _item(spool, name, known, limits, now, quarantined=spool.find(name))


def _item(
    spool: Spool,
    name: str,
    known: AbstractSet[str],
    limits: Mapping[str, int],
    now: float,
    *,
    quarantined: bool,
) -> Item:
    host = host_of(name) or ""
    limit = limits.get(host, MAX_SHOWN)
    status = spool.directory.status(f"{QUARANTINE}/{name}" if quarantined else name)
    note = spool.directory.note(name)
    request = None
    if stat.S_ISREG(status.st_mode):
        request = _request(spool, name, limit, quarantined=quarantined)
    if quarantined:
        state = f"quarantined: {note.reason or 'unknown'}"
    else:
        state = "unknown_host" if host not in known else _state(spool, name, limit, now)
    return Item(
        name=name,
        age=max(now - status.st_mtime, 0.0),
        host=host,
        verb=verb((request or b"")[encrypted_part(request or b"") :]),
        size=status.st_size if request is None else len(request),
        attempts=note.attempts,
        state=state,
        uid=status.st_uid,
        request=request,
    )


def _request(spool: Spool, name: str, limit: int, *, quarantined: bool) -> bytes | None:
    directory = spool.directory
    try:
        folder = directory.folder(quarantined=quarantined)
        data = directory.read(name, folder, sealed_size(limit) + 1)
        return spool.inspector.unseal(name, data) if is_sealed(data) else data
    except FileNotFoundError:
        raise
    except (OSError, UnsealError):
        return None


def _state(spool: Spool, name: str, limit: int, now: float) -> str:
    found = spool.inspect(name, limit, now)
    if found.verdict is Verdict.GONE:
        raise FileNotFoundError
    if found.verdict is Verdict.READY:
        return "sealed" if found.sealed else "waiting"
    if found.verdict is Verdict.BAD:
        return found.reason
    return "settling" if found.verdict is Verdict.YOUNG else found.verdict.value
