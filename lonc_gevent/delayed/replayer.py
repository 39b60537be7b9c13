# SPDX-License-Identifier: GPL-2.0-or-later
"""The replay of delayed requests once their hosts are up: scans, and a greenlet for each host.

The directory is scanned at the start, each `scan_interval`, and when a host is up again; the
janitor decides when. Each host that has files has one greenlet (host_replay.py), which sends them
in the order of their names. All file work is done in two threads, so that a slow disk does not
block the event loop.
"""

from __future__ import annotations

import time
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

import gevent

from lonc_gevent.configuration.settings import LOCK_NAME
from lonc_gevent.errors import ConfigError, SpoolError

from .context import ReplayContext
from .directory import prepare
from .files import reason_of
from .host_replay import HostReplay
from .key_file import read_key
from .scan import Scanner
from .seal import key_from_file
from .spool import spool_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.backend.snapshot import DelayedSnapshot
    from lonc_gevent.backend.transaction import Transaction
    from lonc_gevent.configuration.settings import Settings

    from .scan import Scan
    from .spool import Spool

MIN_SCAN_PAUSE: Final = 1.0
"""Least seconds between two scans of the directory, whatever requests them."""

CLOSE_TIMEOUT: Final = 2.0
"""Seconds to wait for the removal of answered files at the end."""


class Replayer:
    """The replay of a daemon's delayed requests.

    pools     the hosts that are served; the daemon may change it at any time
    known     the ids of all hosts in hosts.tab; likewise
    wake      called when `next_scan` (monotonic seconds) may be earlier than it was; the janitor
              calls `scan` at that time
    unusable  why the directory cannot be used now; "" if it can
    unknown   files of hosts that are not known and of malformed names, those in quarantine too
    """

    def __init__(
        self,
        spool: Spool,
        pools: Mapping[str, Pool],
        logger: FilteringBoundLogger,
        *,
        settings: Settings,
        wake: Callable[[], None],
    ) -> None:
        self.spool = spool
        self.pools = pools
        self.known: AbstractSet[str] = frozenset()
        self.log = logger
        self._context = ReplayContext(spool, logger, settings, self.scan_soon)
        self._interval = settings.delayed.scan_interval
        self._scanner = Scanner(spool, settings.delayed.orphan_after)
        self._hosts: dict[str, HostReplay] = {}
        self.next_scan = inf
        self._wake = wake
        self._last_scan = -inf
        self._scan_wanted = False
        self._scan_greenlet: gevent.Greenlet[[], None] | None = None
        self.unusable = ""
        self.unknown = 0
        self._orphaned: AbstractSet[str] = frozenset()

    def __repr__(self) -> str:
        return f"<Replayer {self.spool.path} {len(self._hosts)} hosts with files>"

    # -- called by the daemon -----------------------------------------------------------------

    def prepare(self, gid: int) -> None:
        """Create the directory and the perm log if they are missing.

        gid: the group that may write to the directory, or -1
        """
        prepare(self.spool.path, gid)
        with suppress(OSError):  # `check` reports it, and so does the first line to write
            self._context.perm_log.create()

    def start(self) -> None:
        """Start, or start again after `stop` or `close`."""
        self.spool.cancelled = False
        self._last_scan = -inf
        self.scan_soon()

    def scan_soon(self) -> None:
        """Scan the directory now, or as soon as the pause after the last scan has passed."""
        self._scan_wanted = True
        if self._scan_greenlet is None:
            self._plan_scan()

    def host_up(self, pool: Pool) -> None:
        """Continue with a host that is up again."""
        replay = self._hosts.get(pool.host.id)
        if replay is not None:
            replay.wake.set()
        self.scan_soon()

    def stop(self) -> None:
        """Send no more. A file whose request was sent already is removed if it is answered."""
        self.spool.cancelled = True
        self.next_scan = inf
        if self._scan_greenlet is not None:
            self._scan_greenlet.kill(block=False)
            self._scan_greenlet = None
        for replay in self._hosts.values():
            replay.wake.set()

    @property
    def is_settled(self) -> bool:
        """Whether no file is being worked on, after `stop`. Requests may still be under way."""
        return all(each.greenlet.dead or each.is_under_way for each in self._hosts.values())

    @property
    def under_way(self) -> list[HostReplay]:
        """The replays that wait for a reply."""
        return [replay for replay in self._hosts.values() if replay.is_under_way]

    def restore(self, pool: Pool, state: DelayedSnapshot, transaction: Transaction) -> None:
        """Wait for a reply to a request that the program before a restart in place has sent."""
        replay = self._hosts[state.host] = HostReplay(self._context, pool)
        replay.restore(state, transaction)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Wait until the files of answered requests are removed; release the lock."""
        greenlets = [replay.greenlet for replay in self._hosts.values()]
        gevent.joinall(greenlets, timeout=timeout)
        gevent.killall(greenlets, block=False)
        # If the threads hang in a disk that does not answer, the kernel releases the lock.
        with suppress(gevent.Timeout), gevent.Timeout(timeout):
            self._context.in_thread(self.spool.close)

    # -- the greenlet that scans --------------------------------------------------------------

    def scan(self) -> None:
        """Scan the directory, in a greenlet of its own. Called by the janitor."""
        self.next_scan = inf  # until this scan has ended
        self._scan_wanted = False
        self._scan_greenlet = gevent.spawn(self._run_scan)

    def _run_scan(self) -> None:
        try:
            self._scan()
        except Exception:  # the top of the greenlet: the next scan must take place
            self.log.exception("delayed_failed")
        self._scan_greenlet = None
        self._last_scan = time.monotonic()
        self._plan_scan()

    def _plan_scan(self) -> None:
        pause = min(MIN_SCAN_PAUSE, self._interval) if self._scan_wanted else self._interval
        self.next_scan = self._last_scan + pause
        self._wake()

    def _scan(self) -> None:
        limits = {host_id: pool.host.pool.max_request_bytes for host_id, pool in self.pools.items()}
        known = self.known | limits.keys()
        try:
            scan = self._context.in_thread(self._scanner.scan, known, limits, time.time())
        except (SpoolError, OSError) as error:
            self.unusable = reason_of(error)
            self._context.trouble("delayed_unavailable", error)
        else:
            if not self.spool.cancelled:
                self._report(scan)
                self._send(scan)

    def _report(self, scan: Scan) -> None:
        if self.unusable:
            self.unusable = ""
            self._context.forget_troubles()
            self.log.info("delayed_available", directory=str(self.spool.path))
        if scan.trouble:
            self._context.trouble("delayed_trouble", scan.trouble)
        if scan.sealed:
            self.log.info("delayed_sealed", count=scan.sealed)
        for name, host, reason in scan.moved:
            self._context.log_quarantined(name, host, reason, served=host in self.pools)
        for host, count in scan.returned.items():
            self.log.info("delayed_returned", host=host, count=count)
        for host in scan.orphans.keys() - self._orphaned:
            self.log.warning(
                "delayed_orphaned",
                host=host or None,
                count=scan.orphans[host],
                orphan_after_s=scan.orphan_after,
            )
        self._orphaned = scan.orphans.keys()
        known = self.known | self.pools.keys()
        strange = [count for host, count in scan.quarantined.items() if host not in known]
        self.unknown = scan.orphans.total() + sum(strange)

    def _send(self, scan: Scan) -> None:
        for host_id, pool in self.pools.items():
            pool.stats.delayed_oldest = scan.oldest.get(host_id, 0.0)
            pool.stats.delayed_waiting = scan.waiting[host_id]
            pool.stats.delayed_quarantined = scan.quarantined[host_id]
            self._give(pool, scan.windows.get(host_id, []), scan.waiting[host_id])
        for host_id, replay in tuple(self._hosts.items()):
            if replay.greenlet.dead and host_id not in self.pools:
                del self._hosts[host_id]

    def _give(self, pool: Pool, names: list[str], waiting: int) -> None:
        """Pass the names whose turn comes next to a host's greenlet; start one if needed."""
        replay = self._hosts.get(pool.host.id)
        if replay is None or replay.greenlet.dead:
            # Also for a file that was answered and could not be removed.
            if not (names or (replay is not None and replay.answered)):
                return
            replay = self._hosts[pool.host.id] = HostReplay(self._context, pool, replay)
        elif replay.pool is not pool:
            return  # the host was removed and added again; its old greenlet still has a file
        replay.give(names, more=waiting > len(names))


def build(
    settings: Settings,
    pools: Mapping[str, Pool],
    logger: FilteringBoundLogger,
    *,
    lock: str = LOCK_NAME,
    wake: Callable[[], None],
    key_file: bytes | None = None,
) -> Replayer:
    """Make the replayer of a daemon. Call `prepare` before `start`.

    lock      the lock file's name; each of several processes that share the hosts has its own
    key_file  the content of the key file, or None to read it

    Raises ConfigError for a bad key file.
    """
    delayed = settings.delayed
    key = None
    if delayed.key_file:
        try:
            path = Path(delayed.key_file)
            key = read_key(path) if key_file is None else key_from_file(key_file)
        except ValueError as error:
            raise ConfigError([f"{delayed.key_file}: delayed.key_file: {error}"]) from None
    spool = spool_of(settings, key, lock=lock)
    return Replayer(spool, pools, logger, settings=settings, wake=wake)
