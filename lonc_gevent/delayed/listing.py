# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of `lonc-gevent delayed list`: one for each file, waiting or in quarantine."""

from __future__ import annotations

import stat
from contextlib import suppress
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


class Listing(NamedTuple):
    """The files of a spool.

    known   ids of all hosts in hosts.tab
    limits  id -> max_request_bytes, for the hosts that are served here
    now     seconds since 1970
    """

    spool: Spool
    known: AbstractSet[str]
    limits: Mapping[str, int]
    now: float

    def items(self) -> Iterator[Item]:
        """Yield all files: those that wait in the order in which they are sent, then the others.

        Raises OSError, SpoolError.
        """
        directory = self.spool.directory
        waiting = sorted(e.name for e in directory.entries() if not is_housekeeping(e.name))
        quarantine = sorted(entry.name for entry in directory.entries(QUARANTINE))
        for names, quarantined in ((waiting, False), (quarantine, True)):
            for name in names:
                with suppress(FileNotFoundError):  # it has been sent in the meantime
                    yield self._item(name, quarantined=quarantined)

    def item(self, name: str) -> Item:
        """Return one file's row. Raises FileNotFoundError if it does not exist, OSError."""
        return self._item(name, quarantined=self.spool.find(name))

    def _item(self, name: str, *, quarantined: bool) -> Item:
        spool = self.spool
        host = host_of(name) or ""
        limit = self.limits.get(host, MAX_SHOWN)
        status = spool.directory.status(f"{QUARANTINE}/{name}" if quarantined else name)
        note = spool.directory.note(name)
        request = None
        if stat.S_ISREG(status.st_mode):
            request = self._request(name, limit, spool.directory.folder(quarantined=quarantined))
        if quarantined:
            state = f"quarantined: {note.reason or 'unknown'}"
        else:
            state = self._state(name, limit) if host in self.known else "unknown_host"
        return Item(
            name=name,
            age=max(self.now - status.st_mtime, 0.0),
            host=host,
            verb=verb((request or b"")[encrypted_part(request or b"") :]),
            size=status.st_size if request is None else len(request),
            attempts=note.attempts,
            state=state,
            uid=status.st_uid,
            request=request,
        )

    def _request(self, name: str, limit: int, folder: int) -> bytes | None:
        try:
            data = self.spool.directory.read(name, folder, sealed_size(limit) + 1)
            return self.spool.inspector.unseal(name, data) if is_sealed(data) else data
        except FileNotFoundError:
            raise
        except (OSError, UnsealError):
            return None

    def _state(self, name: str, limit: int) -> str:
        found = self.spool.inspect(name, limit, self.now)
        if found.verdict is Verdict.GONE:
            raise FileNotFoundError
        if found.verdict is Verdict.READY:
            return "sealed" if found.sealed else "waiting"
        if found.verdict is Verdict.BAD:
            return found.reason
        return "settling" if found.verdict is Verdict.YOUNG else found.verdict.value
