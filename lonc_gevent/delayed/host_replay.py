# SPDX-License-Identifier: GPL-2.0-or-later
"""The greenlet that sends one host's delayed requests: one at a time, in the order of the names.

Its steps for each file: wait for a connection, wait while live requests are queued, inspect the
file, send its request, and once the whole reply has arrived, remove the file.

- A request that may have run is sent again: a delayed request must run at least once. Live clients
  get con_lost instead, and decide for themselves.
- A connection lost during a request counts as an attempt, and so does an answer by which the
  request did not run (NOT_DONE in requests.py). The next attempt waits, with the same backoff as
  for connections, so that a lond that restarts does not use up all attempts.
- con_lost because nothing could be sent is no attempt.
- A file that cannot be read now, or is written to again and again, is skipped until the next scan:
  one request out of its order does less harm than a host whose requests all wait.
- The request of a file that was answered and cannot be removed (the directory became read-only) is
  never sent again by this process; nothing else is sent to the host until the file is gone.
"""

from __future__ import annotations

import os
import time
from collections import deque
from math import inf
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import gevent
from gevent.event import Event
from greenlet import getcurrent

from lonc_gevent.backend.pool_state import PoolState
from lonc_gevent.backend.retry_gate import RetryGate
from lonc_gevent.backend.snapshot import DelayedSnapshot
from lonc_gevent.backend.transaction import Transaction, never
from lonc_gevent.errors import SpoolError
from lonc_gevent.protocol.lines import verb

from .requests import Verdict, first_word, is_final, shown_name

if TYPE_CHECKING:
    from collections.abc import Collection

    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.protocol.lines import Line

    from .context import ReplayContext
    from .spool import Claim

RATE: Final = 200.0
"""Delayed requests a second for one host, at most, so that a lond that is back is not flooded."""

LIVE_POLL: Final = 0.01
"""Seconds between two checks whether live requests are queued."""

LIVE_PATIENCE: Final = 0.1
"""Seconds to wait for an idle connection when no live request is queued; then join the queue."""

DIAL_POLL: Final = 0.25
"""Seconds between two checks of a connection that is being made."""

MAX_WAIT: Final = 5.0
"""Seconds after which a host that is down is checked again, as an operator may open its gate."""

UNSETTLED_PATIENCE: Final = 60.0
"""Seconds that a host's files wait for one that does not settle; `settle` if that is longer."""


class Answered(NamedTuple):
    """A file whose request was answered, and which still exists."""

    name: str
    request: bytes
    noted: bool


class HostReplay:
    """The replay of one host's files.

    `give` passes names to it; its greenlet ends when no name is left. The next HostReplay of the
    host takes over `answered`, which must not be sent again, and `unsettled`.

    unsettled    name -> when its turn came while it was not settled (monotonic)
    transaction  the request that was sent last, until its reply is dealt with
    """

    def __init__(
        self, context: ReplayContext, pool: Pool, previous: HostReplay | None = None
    ) -> None:
        self.context = context
        self.pool = pool
        self.wake = Event()
        self.answered: Answered | None = previous.answered if previous else None
        self.unsettled: dict[str, float] = previous.unsettled if previous else {}
        self.transaction: Transaction | None = None
        self._names: deque[str] = deque()
        self._more = False
        self._gate = RetryGate(pool.host.pool.retry_backoff_min, pool.host.pool.retry_backoff_max)
        self._attempts = ("", 0)
        self._ahead = ("", 0.0, 0.0)  # a file dated later than the clock: name, mtime, first seen
        self._next_at = 0.0
        self.greenlet = gevent.spawn(self._run)

    def __repr__(self) -> str:
        return f"<HostReplay {self.pool.host.id} {len(self._names)} names>"

    def give(self, names: Collection[str], *, more: bool) -> None:
        """Set the names whose turn comes next, in order. more: others come after them."""
        self._names = deque(names)
        if self.unsettled:
            self.unsettled = {n: self.unsettled[n] for n in names if n in self.unsettled}
        self._more = more
        self.wake.set()

    # -- restart in place --------------------------------------------------------------------

    @property
    def is_under_way(self) -> bool:
        """Whether it waits for a reply."""
        return self.transaction is not None and self.transaction.reply is None

    def snapshot(self) -> DelayedSnapshot:
        """Return the state, if it `is_under_way`."""
        name, attempts = self._attempts
        return DelayedSnapshot(self.pool.host.id, os.fsencode(name), attempts)

    def restore(self, state: DelayedSnapshot, transaction: Transaction) -> None:
        """Wait for the reply to a request that the program before has sent."""
        self._attempts = (os.fsdecode(state.file), state.attempts)
        self.transaction = transaction
        transaction.waiter = self.greenlet
        transaction.is_abandoned = never

    # -- the greenlet ------------------------------------------------------------------------

    def _run(self) -> None:
        while self.transaction is not None or not self._is_over():
            try:
                if self.transaction is not None:
                    self._receive(self.transaction)
                elif self.answered is not None:
                    self._finish(self.answered)
                elif not self._names:
                    break
                elif self._may_send():
                    self._next(self._names[0])
            except Exception:  # the top of the greenlet: a bug must not end the replay of a host
                self.context.log.exception("delayed_failed", host=self.pool.host.id)
                self._wait(MAX_WAIT)
        if self._more and not self._is_over():
            self.context.scan_soon()

    def _is_over(self) -> bool:
        return self.context.spool.cancelled or self.pool.is_ending

    def _wait(self, seconds: float) -> None:
        self.wake.clear()
        self.wake.wait(seconds)

    # -- before a file is sent ---------------------------------------------------------------

    def _may_send(self) -> bool:
        """Wait for a connection, the backoff, and live requests; return whether all are done."""
        now = monotonic()
        if self.pool.state is not PoolState.UP:
            # The file is a reason to connect, even if no client sends a request to this host.
            self.pool.open_connection(now)
            opens_in = self.pool.gate.opens_at - now
            waits = self.pool.connecting is None and opens_in > 0
            # An open gate and no connection being made: the host is paused.
            self._wait(min(opens_in, MAX_WAIT) if waits else DIAL_POLL)
            return False
        later = max(self._gate.opens_at, self._next_at) - now
        if later > 0:
            self._wait(later)
            return False
        return self._live_first(now)

    def _live_first(self, since: float) -> bool:
        """Wait until no live request is queued, then a little for an idle connection."""
        pool = self.pool
        while pool.queue or (not pool.idle and monotonic() - since < LIVE_PATIENCE):
            if self._is_over() or pool.state is not PoolState.UP:
                return False
            pool.open_connection(monotonic())
            gevent.sleep(LIVE_POLL)
        return not self._is_over()

    # -- a file whose turn has come ----------------------------------------------------------

    def _next(self, name: str) -> None:
        spool, settle = self.context.spool, self.context.spool.inspector.settle
        limit = self.pool.host.pool.max_request_bytes
        now, (ahead, mtime, since) = time.time(), self._ahead
        if ahead == name and monotonic() - since >= settle:
            now = max(now, mtime + settle + 1.0)  # by the clock that set its time, it has settled
        try:
            claim = self.context.in_thread(spool.claim, name, limit, now)
        except (SpoolError, OSError) as error:
            self._unavailable(error)
            return
        found = claim.found
        if found.verdict is Verdict.READY:
            self._send(name, claim)
        elif found.verdict is Verdict.UNREADABLE:
            # It stays until the next scan; the files behind it are sent.
            self.context.trouble(
                "delayed_trouble", f"cannot read {shown_name(name)}: {found.reason}"
            )
            self._drop(name)
        elif found.verdict is Verdict.YOUNG:
            mtime = found.status.st_mtime if found.status else 0.0
            if mtime > time.time() and self._ahead[:2] != (name, mtime):
                self._ahead = (name, mtime, monotonic())
            self._wait_until_settled(name, max(found.age, 0.0))
        elif found.verdict is Verdict.BAD:
            self._quarantine(name, found.reason, 0)
        else:
            self._drop(name)

    def _wait_until_settled(self, name: str, age: float) -> None:
        """Wait until a file settles, and let those behind it wait, whatever their dates."""
        settle = self.context.spool.inspector.settle
        waited = monotonic() - self.unsettled.setdefault(name, monotonic())
        if waited < max(UNSETTLED_PATIENCE, settle):
            self._wait(max(LIVE_POLL, min(settle - age, MAX_WAIT)))
            return
        if waited < inf:
            fields = {"host": self.pool.host.id, "file": shown_name(name)}
            self.context.log.warning("delayed_unsettled", **fields, waited_s=round(waited))
        self.unsettled[name] = -inf  # skipped: it delays no other file again
        self._drop(name)

    def _send(self, name: str, claim: Claim) -> None:
        self.unsettled.pop(name, None)
        attempts = max(claim.attempts, self._attempts[1] if self._attempts[0] == name else 0)
        if attempts >= self.context.max_attempts:
            self._quarantine(name, "max_attempts", attempts)
            return
        self._next_at = monotonic() + 1 / RATE
        self._attempts = (name, attempts)
        self.transaction = Transaction(claim.found.request, getcurrent(), monotonic())
        self.pool.submit(self.transaction)

    def _receive(self, transaction: Transaction) -> None:
        """Wait for the reply to a request, and deal with it."""
        reply = transaction.wait(self.pool.hub)
        try:
            self._deal_with(transaction, reply)
        finally:
            self.transaction = None

    def _deal_with(self, transaction: Transaction, reply: Line) -> None:
        name, attempts = self._attempts
        if not transaction.is_answered:
            if transaction.error is None:
                self._wait(DIAL_POLL)  # not sent: down, paused, or the queue was full
            elif not self._is_over():
                failed = self._failed(name, attempts + 1)
                kind = transaction.error.kind
                self.context.log.warning("delayed_attempt_lost", **failed, error=kind)
                self._retry(name, attempts + 1, "max_attempts")
            return
        if not is_final(reply):
            failed = self._failed(name, attempts + 1)
            word, of = first_word(reply), verb(transaction.request)
            self.context.log.warning("delayed_refused", **failed, verb=of, answer=word)
            self._retry(name, attempts + 1, word)
            return
        self._gate.open()
        self._log_done(name, transaction)
        self.answered = Answered(name, bytes(transaction.request), noted=attempts > 0)
        self._finish(self.answered)

    def _failed(self, name: str, attempts: int) -> dict[str, Any]:
        """Delay the next attempt; return the log fields of the one that failed."""
        delay = self._gate.failed(monotonic(), random())  # noqa: S311 - jitter, not a secret # nosec B311
        return {
            "host": self.pool.host.id,
            "file": shown_name(name),
            "attempts": attempts,
            "max_attempts": self.context.max_attempts,
            "retry_in_s": round(delay, 3),
        }

    def _retry(self, name: str, attempts: int, reason: str) -> None:
        """Write down the attempts, or quarantine the file after the last one."""
        self._attempts = (name, attempts)
        if attempts >= self.context.max_attempts:
            self._quarantine(name, reason, attempts)
            return
        try:
            self.context.in_thread(self.context.spool.note_attempt, name, attempts)
        except (SpoolError, OSError) as error:
            self.context.trouble("delayed_unavailable", error)  # `_attempts` has it until we end

    def _finish(self, answered: Answered) -> None:
        """Remove the file of an answered request."""
        try:
            unrecorded = self.context.in_thread(self._remove_and_record, answered)
        except (SpoolError, OSError) as error:
            self._unavailable(error)
            return
        self.answered = None
        self.pool.stats.delayed_waiting = max(self.pool.stats.delayed_waiting - 1, 0)
        self._drop(answered.name)
        if unrecorded:
            self.context.trouble("delayed_perm_log_failed", unrecorded)

    def _remove_and_record(self, answered: Answered) -> str:
        """Do the file work of `_finish`; return why the S line could not be written, or ""."""
        self.context.spool.done(answered.name, noted=answered.noted)
        return self.context.perm_log.record("S", self.pool.host.id, answered.request)

    def _quarantine(self, name: str, reason: str, attempts: int) -> None:
        try:
            moved = self.context.in_thread(self.context.spool.quarantine, name, reason, attempts)
        except (SpoolError, OSError) as error:
            # It stays until the next scan; the files behind it are sent.
            self.context.trouble("delayed_unavailable", error)
        else:
            stats = self.pool.stats
            stats.delayed_quarantined += moved
            stats.delayed_waiting = max(stats.delayed_waiting - moved, 0)
            if moved:
                self.context.log_quarantined(name, self.pool.host.id, reason, attempts)
        self._drop(name)

    def _drop(self, name: str) -> None:
        if self._names and self._names[0] == name:
            self._names.popleft()

    def _unavailable(self, error: SpoolError | OSError) -> None:
        self.context.trouble("delayed_unavailable", error)
        self._wait(MAX_WAIT)

    def _log_done(self, name: str, transaction: Transaction) -> None:
        self.pool.stats.delayed_replayed += 1
        self.context.log.info(
            "delayed_replayed",
            host=self.pool.host.id,
            file=shown_name(name),
            reply_bytes=len(transaction.reply or b""),
            **transaction.fields(monotonic()),
        )
