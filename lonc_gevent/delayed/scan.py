# SPDX-License-Identifier: GPL-2.0-or-later
"""A scan of the whole delayed directory, which may hold a hundred thousand files.

It runs in a thread, in slices with a short sleep after each, so that the thread with the hub gets
the interpreter. Memory is bounded: of each host only the names whose turn comes next are kept. A
file is opened once, and again only if it has changed since, as its ctime shows, which no user can
set.
"""

from __future__ import annotations

import time
from bisect import insort
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from lonc_gevent.errors import SpoolError

from .files import reason_of
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
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from .inspection import Inspected
    from .spool import Spool

SLICE: Final = 0.0005
"""Seconds of work between two sleeps. A thread that waits for the interpreter waits until the next
sleep, as each system call here is too short for a switch of threads."""

REST: Final = 0.0005
"""Seconds of such a sleep."""

MAX_WINDOW: Final = 1000
MAX_NAMES: Final = 50_000
"""Names kept: of one host, and of all hosts together."""

MAX_QUARANTINED: Final = 1000
"""Files moved to quarantine in one scan; the others wait for the next."""

UNKNOWN_HOST: Final = "unknown_host"
"""Reason of the quarantine of a file whose host is unknown. It is taken back when the host is
served again."""

MAX_LEFT: Final = 10_000
"""Unfinished or unreadable files that a scan remembers for the next one to inspect; if there are
more, the next one inspects all files."""

SEAL_SECONDS: Final = 2.0
"""Seconds of a scan that may be spent on sealing, where each file is synced."""


_T = TypeVar("_T")


class Quarantined(NamedTuple):
    """A file that a scan moved to quarantine."""

    name: str
    host: str
    reason: str


@dataclass
class _Memory:
    """What one scan leaves for the next.

    missing          ids of unknown hosts that have files -> when that was first found
    served           the hosts that were served
    inspected_until  files with an older ctime have been inspected
    left             names of files to inspect again even if they have not changed
    """

    missing: dict[str, float] = field(default_factory=dict)
    served: AbstractSet[str] = frozenset()
    inspected_until: float = 0.0
    left: AbstractSet[str] = frozenset()


class Scanner:
    """Scans a spool's directory, again and again.

    orphan_after  seconds that files wait for an unknown host before they go to quarantine
    """

    def __init__(self, spool: Spool, orphan_after: float) -> None:
        self.spool = spool
        self.orphan_after = orphan_after
        self._memory = _Memory()

    def scan(self, known: AbstractSet[str], limits: Mapping[str, int], now: float) -> Scan:
        """Scan the directory once.

        known   ids of all hosts in hosts.tab: files of others wait for `orphan_after`
        limits  id -> max_request_bytes, for the hosts that this daemon serves
        now     seconds since 1970

        Raises SpoolError if the directory cannot be used, OSError if reading it fails.
        """
        opened = self.spool.open()
        if opened or now < self._memory.inspected_until:
            self._memory = _Memory(missing=self._memory.missing)
            self.spool.directory.forget_strays()
        scan = Scan(self.spool, self.orphan_after, self._memory, known, limits, now, opened)
        scan.run()
        return scan


@dataclass
class Scan:
    """One scan of the directory, and what it found, by host id."""

    spool: Spool
    orphan_after: float
    memory: _Memory
    known: AbstractSet[str]
    limits: Mapping[str, int]
    now: float
    opened: bool
    """Whether the directory was opened for it: at the start, or after an error."""
    waiting: Counter[str] = field(default_factory=Counter)
    windows: dict[str, list[str]] = field(default_factory=dict)
    """The names whose turn comes next, in order."""
    quarantined: Counter[str] = field(default_factory=Counter)
    moved: list[Quarantined] = field(default_factory=list)
    """The files that this scan moved to quarantine."""
    sealed: int = 0
    oldest: dict[str, float] = field(default_factory=dict)
    """When the file that has waited longest was last written, in seconds since 1970."""
    orphans: Counter[str] = field(default_factory=Counter)
    """Files that wait for an unknown host; "" where the name may show a request."""
    returned: Counter[str] = field(default_factory=Counter)
    """Files taken back from quarantine, as their host is known again."""
    trouble: str = ""
    """Why a file could not be read, sealed, quarantined or removed; "" if none failed."""
    complete: bool = True
    """Whether every new file was inspected."""
    blind: bool = False
    """Whether files cannot be inspected now: the others are counted, and none is moved."""
    left: set[str] = field(default_factory=set)
    missing: dict[str, float] = field(default_factory=dict)
    _sealing: float = 0.0
    _work_until: float = 0.0

    def run(self) -> None:
        """Scan quarantine and directory, and update the memory for the next scan."""
        self._window = max(20, min(MAX_WINDOW, MAX_NAMES // max(len(self.limits), 1)))
        ended = self._scan_quarantine() and self._scan_directory()
        memory = self.memory
        if ended and not self.blind:
            memory.left, memory.missing = self.left, self.missing
            memory.served = frozenset(self.limits)
        if ended and self.complete:
            memory.inspected_until = self.now - self.spool.inspector.settle - 1.0

    def _scan_quarantine(self) -> bool:
        """Count the files in quarantine, and take back those of hosts that are new.

        Comes first: files that are taken back take part in their host's order, and a failure to
        open the folder must not occur after other files were moved and not logged. Returns False
        if the scan is cancelled.
        """
        new = self.limits.keys() - self.memory.served
        for entry in self.spool.directory.entries(QUARANTINE):
            host = host_of(entry.name) or ""
            if not (host in new and self._take_back(entry.name, host)):
                self.quarantined[host] += 1
            self._rest()
            if self.spool.cancelled:
                return False
        return True

    def _scan_directory(self) -> bool:
        for entry in self.spool.directory.entries():
            try:
                self._scan_entry(entry)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.complete = False
                self.trouble = f"cannot look at an entry: {reason_of(error)}"
            finally:
                self._rest()
            if self.spool.cancelled:
                return False
        return True

    def _rest(self) -> None:
        if time.monotonic() >= self._work_until:
            time.sleep(REST)
            self._work_until = time.monotonic() + SLICE

    def _attempt(
        self, failure: str, step: Callable[..., _T], *arguments: object, again: bool = False
    ) -> _T | None:
        """Call `step` and return its result; note its error as trouble and return None.

        again: whether the next scan must inspect all files after an error.
        """
        try:
            return step(*arguments)
        except (OSError, SpoolError) as error:
            self.complete = self.complete and not again
            self.trouble = f"{failure}: {reason_of(error)}"
            return None

    def _scan_entry(self, entry: os.DirEntry[str]) -> None:
        name = entry.name
        if is_housekeeping(name):
            if name.startswith(UNFINISHED_PREFIX) and not self.blind:
                self._remove_if_old(entry)
            return
        host = host_of(name)
        if host is None or host not in self.known:
            if not self.blind:
                self._scan_orphan(entry, host)
        elif host in self.limits:
            self._scan_served(entry, host)

    def _remove_if_old(self, entry: os.DirEntry[str]) -> None:
        """Remove a file that a writer, or this daemon, began long ago and never renamed."""
        status = entry.stat(follow_symlinks=False)
        if self.now - max(status.st_mtime, status.st_ctime) >= UNFINISHED_AGE:
            # Fails for a folder, or an immutable file.
            failure = f"cannot remove an old {UNFINISHED_PREFIX}* file"
            self._attempt(failure, self.spool.directory.remove, entry.name)

    def _take_back(self, name: str, host: str) -> bool:
        """Take a file out of quarantine if only its host was missing; return whether it was."""
        if self.spool.directory.note(name).reason != UNKNOWN_HOST:
            return False
        if self._attempt("cannot move out of quarantine", self.spool.retry, name) is None:
            return False
        self.returned[host] += 1
        return True

    def _scan_orphan(self, entry: os.DirEntry[str], host: str | None) -> None:
        status = entry.stat(follow_symlinks=False)
        if self.now - status.st_mtime < self.spool.inspector.settle:
            return
        if host is None:
            self._quarantine(entry.name, "", "no_such_name")
            return
        since = self.missing.setdefault(host, self.memory.missing.get(host, self.now))
        if self.now - since >= self.orphan_after:
            self._quarantine(entry.name, host, UNKNOWN_HOST)
        else:
            self.orphans[host if shown_name(entry.name) != HIDDEN else ""] += 1

    def _scan_served(self, entry: os.DirEntry[str], host: str) -> None:
        name = entry.name
        status = entry.stat(follow_symlinks=False)
        is_left = name in self.memory.left
        is_new = is_left or status.st_ctime >= self.memory.inspected_until
        found = self._inspect(name, host) if is_new and not self.blind else None
        if found is not None:
            if self._is_gone(name, host, found):
                return
            is_left = self._is_left(name, found)
        self.waiting[host] += 1
        self.oldest[host] = min(status.st_mtime, self.oldest.get(host, status.st_mtime))
        if not is_left:
            window = self.windows.setdefault(host, [])
            if len(window) < self._window or name < window[-1]:
                insort(window, name)
                del window[self._window :]

    def _inspect(self, name: str, host: str) -> Inspected | None:
        """Inspect a file; return None if no file can be inspected now."""
        try:
            return self.spool.inspect(name, self.limits[host], self.now)
        except SpoolError as error:
            self.trouble = f"cannot look into files: {error}"
            self.blind = True
            self.complete = False
            return None

    def _is_gone(self, name: str, host: str, found: Inspected) -> bool:
        """Quarantine or seal an inspected file as needed; return whether it is no longer there."""
        if found.verdict is Verdict.BAD:
            return self._quarantine(name, host, found.reason)
        if self.spool.needs_seal(found):
            self._seal(name, found)
        return found.verdict is Verdict.GONE

    def _is_left(self, name: str, found: Inspected) -> bool:
        """Return whether the file is not to be sent yet, but inspected again by the next scan."""
        if found.verdict not in (Verdict.UNFINISHED, Verdict.UNREADABLE):
            return False
        if len(self.left) < MAX_LEFT:
            self.left.add(name)
        else:
            self.complete = False
        if found.verdict is Verdict.UNREADABLE:
            self.trouble = f"cannot read {shown_name(name)}: {found.reason}"
        return True

    def _seal(self, name: str, found: Inspected) -> None:
        if self._sealing >= SEAL_SECONDS:
            self.complete = False
            return
        began = time.monotonic()
        self.sealed += bool(self._attempt("cannot seal", self.spool.seal, name, found, again=True))
        self._sealing += time.monotonic() - began

    def _quarantine(self, name: str, host: str, reason: str) -> bool:
        """Move a file to quarantine; return False if it is still there."""
        if len(self.moved) >= MAX_QUARANTINED:
            self.complete = False
            return False
        failure, step = "cannot move to quarantine", self.spool.quarantine
        moved = self._attempt(failure, step, name, reason, again=True)
        if moved:
            self.moved.append(Quarantined(name, host, reason))
            self.quarantined[host] += 1
        return moved is not None
