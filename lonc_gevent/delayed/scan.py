# SPDX-License-Identifier: GPL-2.0-or-later
"""A look through the whole delayed directory, which may hold a hundred thousand files.

It runs in a thread, in slices: after each some sleep, so that the thread with the hub has the
interpreter. Memory is bounded: of each host only the names whose turn comes next are kept. A file
is opened once; after that, only if it has changed since (its ctime says so, which nobody can set).
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from lonc_gevent.errors import SpoolError

from .requests import (
    HIDDEN,
    QUARANTINE,
    UNFINISHED_AGE,
    UNFINISHED_PREFIX,
    Verdict,
    host_of,
    is_housekeeping,
    shown_name,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from .inspection import Found
    from .spool import Spool

SLICE: Final = 0.0005
"""Seconds of work between two rests. Not more: a thread that asks for the interpreter while this
one is at work waits for the rest, as each system call here is too short to pass it on."""

REST: Final = 0.0005
"""Seconds that a rest lasts."""

MAX_WINDOW: Final = 1000
MAX_NAMES: Final = 50_000
"""Names kept: of one host, and of all hosts together."""

MAX_PUT_AWAY: Final = 1000
"""Files moved to quarantine in one scan; the rest waits for the next."""

UNKNOWN_HOST: Final = "unknown_host"
"""Why a file is in quarantine whose host is not known; it comes back when the host does."""

MAX_LEFT: Final = 10_000
"""Files left for later, unfinished or unreadable, that the next scan knows to look at again; with
more of them, it looks at all there are."""

SEAL_SECONDS: Final = 2.0
"""Seconds of a scan that may go into sealing, where each file is synced."""

_LEFT = (Verdict.UNFINISHED, Verdict.UNREADABLE)


class PutAway(NamedTuple):
    """A file that a scan moved to quarantine."""

    name: str
    host: str
    reason: str


@dataclass
class Scan:
    """What a look through the directory found, by host id."""

    opened: bool = False
    """Whether the directory was opened for it: at the start, or after a trouble."""
    waiting: Counter[str] = field(default_factory=Counter)
    windows: dict[str, list[str]] = field(default_factory=dict)
    """The names whose turn comes next, in order."""
    quarantined: Counter[str] = field(default_factory=Counter)
    put_away: list[PutAway] = field(default_factory=list)
    sealed: int = 0
    oldest: dict[str, float] = field(default_factory=dict)
    """When the file that waits for longest was last written, in seconds since 1970."""
    orphans: Counter[str] = field(default_factory=Counter)
    """Files that wait for a host that is not known; "" where the name may show a request."""
    returned: Counter[str] = field(default_factory=Counter)
    """Files that came back from quarantine, as their host is known again."""
    trouble: str = ""
    """What kept a file from being read, sealed, put away or removed; "" if nothing did."""


class Windows:
    """The smallest names of each host, at most `size` when all are in."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._names: dict[str, list[str]] = {}
        self._bounds: dict[str, str] = {}

    def add(self, host: str, name: str) -> None:
        """Keep the name if it is among the smallest ones so far."""
        if name >= self._bounds.get(host, "\U0010ffff"):
            return
        names = self._names.setdefault(host, [])
        names.append(name)
        if len(names) >= 2 * self.size:
            names.sort()
            del names[self.size :]
            self._bounds[host] = names[-1]

    def sorted(self) -> dict[str, list[str]]:
        """Return the names of each host in their order."""
        return {host: sorted(names)[: self.size] for host, names in self._names.items()}


class Scanner:
    """Looks through a spool's directory, again and again.

    orphan_after  seconds that files wait for a host that is not known; then they go to quarantine
    """

    def __init__(self, spool: Spool, orphan_after: float) -> None:
        self.spool = spool
        self.orphan_after = orphan_after
        self.missing: dict[str, float] = {}
        """Ids of hosts that are not known and have files -> when that was first seen."""
        self._served: AbstractSet[str] = frozenset()
        self._looked_until = 0.0
        self._left: set[str] = set()

    def scan(self, known: AbstractSet[str], limits: Mapping[str, int], now: float) -> Scan:
        """Look through the directory once.

        known   ids of all hosts there are: files of others wait for `orphan_after`
        limits  id -> max_request_bytes, for the hosts that this daemon serves
        now     seconds since 1970

        Raises SpoolError if the directory can't be used, OSError if reading it fails.
        """
        found = Scan(opened=self.spool.open())
        if found.opened or now < self._looked_until:
            self._looked_until = 0.0
            self._left.clear()
            self._served = frozenset()
            self.spool.directory.forget_strays()
        round_ = _Round(self, found, known, limits, now)
        round_.run(limits.keys() - self._served)
        found.windows = round_.windows.sorted()
        if not (self.spool.cancelled or round_.blind):
            self._left = round_.left
            self.missing = round_.missing
            self._served = frozenset(limits)
        if round_.complete:
            self._looked_until = now - self.spool.settle - 1.0
        return found

    def is_new(self, name: str, status: os.stat_result) -> bool:
        """Say whether a file must be looked into."""
        return status.st_ctime >= self._looked_until or self.is_left(name)

    def is_left(self, name: str) -> bool:
        """Say whether the last look left the file for later."""
        return name in self._left


class _Round:
    """One look through the directory."""

    def __init__(
        self,
        scanner: Scanner,
        found: Scan,
        known: AbstractSet[str],
        limits: Mapping[str, int],
        now: float,
    ) -> None:
        self.scanner = scanner
        self.spool = scanner.spool
        self.found = found
        self.known = known
        self.limits = limits
        self.now = now
        self.windows = Windows(max(20, min(MAX_WINDOW, MAX_NAMES // max(len(limits), 1))))
        self.complete = True
        """Whether all that is new was looked into."""
        self.left: set[str] = set()
        """The files to be looked at again next time, even if they have not changed."""
        self.blind = False
        """Whether files cannot be looked into now: the rest is counted, and nothing is moved."""
        self.missing: dict[str, float] = {}
        self._sealing = 0.0
        self._work_until = 0.0

    def run(self, new: AbstractSet[str]) -> None:
        """Look through quarantine and directory. new: hosts that are served since the last scan."""
        directory = self.spool.directory
        # First: what comes back takes part in its host's order, and a failure to open the folder
        # must not come once something was moved and not logged.
        for entry in directory.entries(QUARANTINE):
            host = host_of(entry.name) or ""
            if not (host in new and self._return(entry.name, host)):
                self.found.quarantined[host] += 1
            self._rest()
            if self.spool.cancelled:
                self.complete = False
                return
        for entry in directory.entries():
            try:
                self._entry(entry)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.complete = False
                self.found.trouble = f"cannot look at an entry: {error.strerror}"
            finally:
                self._rest()
            if self.spool.cancelled:
                self.complete = False
                return

    def _rest(self) -> None:
        if time.monotonic() >= self._work_until:
            time.sleep(REST)
            self._work_until = time.monotonic() + SLICE

    def _entry(self, entry: os.DirEntry[str]) -> None:
        name = entry.name
        if is_housekeeping(name):
            if name.startswith(UNFINISHED_PREFIX) and not self.blind:
                self._tidy(entry)
            return
        host = host_of(name)
        if host is None or host not in self.known:
            if not self.blind:
                self._stranger(entry, host)
        elif host in self.limits:
            self._ours(entry, host)

    def _tidy(self, entry: os.DirEntry[str]) -> None:
        """Remove what a writer, or we ourselves, began long ago and never named."""
        status = entry.stat(follow_symlinks=False)
        if self.now - max(status.st_mtime, status.st_ctime) >= UNFINISHED_AGE:
            try:
                self.spool.directory.remove(entry.name)
            except OSError as error:  # a folder, or a file that is made to stay
                self.found.trouble = (
                    f"cannot remove an old {UNFINISHED_PREFIX}* file: {error.strerror}"
                )

    def _return(self, name: str, host: str) -> bool:
        """Take a file out of quarantine if only its host was missing; return whether it was."""
        if self.spool.directory.note(name).reason != UNKNOWN_HOST:
            return False
        try:
            self.spool.retry(name)
        except OSError as error:
            self.found.trouble = f"cannot move out of quarantine: {error.strerror or error!r}"
            return False
        self.found.returned[host] += 1
        return True

    def _stranger(self, entry: os.DirEntry[str], host: str | None) -> None:
        status = entry.stat(follow_symlinks=False)
        if self.now - status.st_mtime < self.spool.settle:
            return
        if host is None:
            self._put_away(entry.name, "", "no_such_name")
            return
        since = self.missing.setdefault(host, self.scanner.missing.get(host, self.now))
        if self.now - since >= self.scanner.orphan_after:
            self._put_away(entry.name, host, UNKNOWN_HOST)
        else:
            self.found.orphans[host if shown_name(entry.name) != HIDDEN else ""] += 1

    def _ours(self, entry: os.DirEntry[str], host: str) -> None:
        name = entry.name
        found = None
        status = entry.stat(follow_symlinks=False)
        if not self.blind and self.scanner.is_new(name, status):
            found = self._look(name, host)
        if found is None:
            left = self.scanner.is_left(name)
        elif self._is_gone(name, host, found):
            return
        else:
            left = self._is_left(name, found)
        self.found.waiting[host] += 1
        oldest = self.found.oldest
        oldest[host] = min(status.st_mtime, oldest.get(host, status.st_mtime))
        if not left:
            self.windows.add(host, name)

    def _look(self, name: str, host: str) -> Found | None:
        """Look into a file. None if that cannot be done now: then no other needs trying."""
        try:
            return self.spool.look(name, self.limits[host], self.now)
        except SpoolError as error:
            self.found.trouble = f"cannot look into files: {error}"
            self.blind = True
            self.complete = False
            return None

    def _is_gone(self, name: str, host: str, found: Found) -> bool:
        """Do what a look asks for; say whether the file is no longer there."""
        if found.verdict is Verdict.BAD:
            return self._put_away(name, host, found.reason)
        if self.spool.needs_seal(found):
            self._seal(name, found)
        return found.verdict is Verdict.GONE

    def _is_left(self, name: str, found: Found) -> bool:
        """Say whether the file's turn does not come; then it is looked at again next time."""
        if found.verdict not in _LEFT:
            return False
        if len(self.left) < MAX_LEFT:
            self.left.add(name)
        else:
            self.complete = False
        if found.verdict is Verdict.UNREADABLE:
            self.found.trouble = f"cannot read {shown_name(name)}: {found.reason}"
        return True

    def _seal(self, name: str, found: Found) -> None:
        if self._sealing >= SEAL_SECONDS:
            self.complete = False
            return
        began = time.monotonic()
        try:
            self.found.sealed += self.spool.seal(name, found)
        except OSError as error:
            self.complete = False
            self.found.trouble = f"cannot seal: {error.strerror}"
        self._sealing += time.monotonic() - began

    def _put_away(self, name: str, host: str, reason: str) -> bool:
        if len(self.found.put_away) >= MAX_PUT_AWAY:
            self.complete = False
            return False
        try:
            if self.spool.quarantine(name, reason):
                self.found.put_away.append(PutAway(name, host, reason))
                self.found.quarantined[host] += 1
        except (OSError, SpoolError) as error:
            self.complete = False
            words = error.strerror if isinstance(error, OSError) else str(error)
            self.found.trouble = f"cannot move to quarantine: {words}"
            return False
        return True
