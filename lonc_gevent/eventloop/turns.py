# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns of the hub: read what came, run everybody whom that wakes, write what they posted.

An epoll of our own, and three short loops. The loop's own watchers would do, but:

- each of them takes its greenlet through a read, its work and a write before the next one has its
  turn. All reads one after the other, and then all writes, cost less: the processor has what it
  needs at hand, and who is written to (a lond, a web process) is woken once for several lines;
- libev invokes all that is ready before it looks again, and its list of that grows without a
  limit. 10,000 web processes that left in the same moment kept everybody else waiting for 90 to
  150 ms. Here a turn is short whatever there is, and who hangs up gives way (hangups.py).

A turn is made of rounds. In each of them come first those who ask, the lond connections: they take
what lond answered and write the next request. Then come the others, the clients: by the time that
they have their replies and have said what they want next, lond has answered several requests, not
one or two. That saves a tenth of all CPU time with a connection for each request, and 4 to 8 % with
connections that are kept open (scripts/BENCH.md).

While much goes on, a stream may be tried once, some rounds later, before the kernel is told of it.
By then one that has its reply has hung up. A client that is accepted is tried in the same round, as
most have asked by then. So with a connection for each request hardly any is ever registered.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from select import EPOLLHUP, EPOLLIN, epoll
from typing import TYPE_CHECKING, Final

from greenlet import getcurrent

from .hangups import HangUps
from .participants import UnquietError

if TYPE_CHECKING:
    from gevent.hub import Hub
    from greenlet import greenlet

    from .participants import Poster, Reader

READ_SIZE: Final = 479
"""Bytes asked for by a turn's read: most lines fit, and the most for which Python has room at hand.

A bytes object of this size is one of 512 bytes, the largest that its own allocator keeps. With 16
KB, which the C library has to find and to cut, a request cost 2 to 5 % more.
"""

TURN: Final = 64
"""Readers told, after which a turn looks for no more: the loop sees to all else first."""

BURST: Final = 32
"""Descriptors looked at in one round: all of them are read and run before the first is written."""

PATIENCE: Final = 4
"""Rounds after which most clients that were answered have hung up, if they are to."""

_LOOP_READ: Final = 1
"""Of a watcher of the loop: call when there is something to read."""


def give_turn(hub: Hub) -> None:
    """Let every other greenlet that is ready run before this one goes on.

    As `gevent.sleep(0)`, which however does not stand a spurious wake-up, and which comes back
    before the loop has looked for what is readable now: a timer comes back after that.
    """
    timer = hub.loop.timer(0)
    timer.start(getcurrent().switch)
    try:
        hub.switch()
    finally:
        timer.stop()
        timer.close()


class Turns:
    """Watches descriptors, and runs whom they wake. One for all streams of a hub."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._epoll = epoll()
        self.readers: dict[int, Reader] = {}
        """Whom the kernel watches, by descriptor. Who closes one removes itself."""
        self._untried: deque[list[Reader]] = deque([] for _ in range(PATIENCE + 1))
        """Whom to try in the next round, in the one after it, and so on."""
        self._ready: list[Reader] = []
        """Whom to tell next: those that were read for."""
        self._woken: deque[greenlet] = deque()
        self.requests: list[Poster] = []
        self.replies: list[Poster] = []
        """Who has posted, and is written for once all who are awake have run. Streams add
        themselves: a method for it would cost 1 to 3 % of each request."""
        self._hang_ups = HangUps(hub)
        self._watcher = hub.loop.io(self._epoll.fileno(), _LOOP_READ)
        self._watcher.start(self._turn)
        # A timer would come up to 1 ms later: the loop's epoll_wait has no finer one.
        self._again = hub.loop.idle()
        self.at_rest = True
        """Whether no turn is under way, and none is bound to come."""

    def __repr__(self) -> str:
        return f"<Turns of {len(self.readers)}, {len(self._hang_ups)} put off>"

    # -- what is asked of it -----------------------------------------------------------------

    def watch(self, reader: Reader) -> None:
        """Tell the reader whenever its descriptor is readable."""
        if reader.fd in self.readers:
            return
        try:
            self._epoll.register(reader.fd, EPOLLIN)
        except OSError as error:  # out of memory, or of watches
            reader.fail(error)
        else:
            self.readers[reader.fd] = reader

    def expect(self, reader: Reader, rounds: int) -> None:
        """Read for the reader after so many more rounds; watch it if there is nothing yet.

        If not much goes on, it is watched without being tried.
        """
        self._untried[rounds].append(reader)
        if self.at_rest:
            self.come()

    def unwatch(self, fd: int) -> None:
        """Watch a descriptor no more that stays open."""
        if self.readers.pop(fd, None):
            self._epoll.unregister(fd)

    def flush(self) -> None:
        """Write now what is posted."""
        self._write_requests(self._epoll.poll(0, BURST))
        self._write(self.replies)

    def wake(self, who: greenlet) -> None:
        """Switch to a greenlet in this turn, or in one that comes soon."""
        self._woken.append(who)
        if self.at_rest:
            self.come()

    def come(self) -> None:
        """Have a turn soon: to be called when something is posted while this is at rest."""
        self.at_rest = False
        self.hub.loop.run_callback(self._turn)

    def close(self) -> None:
        """Watch nothing any more."""
        for watcher in (self._watcher, self._again):
            watcher.stop()
            watcher.close()
        self._hang_ups.close()
        self._epoll.close()

    # -- a turn ------------------------------------------------------------------------------

    def _turn(self) -> None:
        if self._epoll.closed:
            return
        self._again.stop()
        try:
            self._rounds()
        except BaseException:  # noqa: BLE001 - out of memory, say: this is not to be the last turn
            self.hub.handle_error(self, *sys.exc_info())
            self.at_rest = False
            self._again.start(self._turn)

    def _rounds(self) -> None:
        self.at_rest = False
        self._hang_ups.begin_turn()
        found = self._epoll.poll(0, BURST)
        if self.requests or self.replies:  # posted between turns: out before anything is read
            self._write_requests(found)
            self._write(self.replies)
        told = 0
        while told < TURN:
            self._read(found, asks=True)
            ran = self._run() if self._ready else 0
            if self.requests:
                found = self._epoll.poll(0, BURST)
                self._write_requests(found)
            self._read(found, asks=False)
            self._try()
            ran += self._run()
            if not (ran or self.requests or self.replies or len(found) == BURST):
                self._watch_untried()
                break
            if self.replies:
                self._write(self.replies)
            found = self._epoll.poll(0, BURST)
            if self.requests:
                self._write_requests(found)
            if not (found or self._woken or any(self._untried)):
                break
            told += ran + 1
        # The epoll calls again if anything is left in it; for what else is left the loop does not
        # wait, but sees to all that it has to do first.
        self.at_rest = not (self._woken or any(self._untried))
        if not self.at_rest:
            self._again.start(self._turn)

    def _run(self) -> int:
        """Tell all who were read for, and switch to all who are awake; return how many."""
        ready, woken = self._ready, self._woken
        for reader in ready:
            try:
                reader.on_readable()
            except BaseException:  # noqa: BLE001 - an error of one is not the end of all
                self.hub.handle_error(reader, *sys.exc_info())
        ran = len(ready) + len(woken)
        ready.clear()
        for _ in range(len(woken)):
            who = woken.popleft()
            try:
                who.switch()
            except BaseException:  # noqa: BLE001 - as above
                self.hub.handle_error(who, *sys.exc_info())
        return ran

    def _watch_untried(self) -> None:
        for readers in self._untried:
            for reader in readers:
                if reader.watched:
                    self.watch(reader)
            readers.clear()

    def _read(self, found: list[tuple[int, int]], *, asks: bool) -> None:
        """Read for those who ask, or the others, that were found to have something; note them."""
        readers = self.readers
        read = os.read
        ready = self._ready
        asked = 0
        for fd, events in found:
            reader = readers.get(fd)
            if reader is None or reader.asks is not asks:
                continue  # None: closed, but a child that is being started has it, too
            if events & EPOLLHUP:
                if self._hang_ups.is_one_too_many():
                    self.unwatch(fd)
                    reader.watched = False
                    self._hang_ups.put_off(reader)
                    continue
            else:
                asked += 1
            if reader.reading:
                try:
                    reader.data = read(fd, READ_SIZE)
                except BlockingIOError:
                    continue
                except OSError as error:
                    reader.fail(error)
                    continue
                reader.reading = False
            elif reader.accepts:
                self._tell(reader)
                continue
            ready.append(reader)
        if asked:
            self._hang_ups.asked(asked)

    def _tell(self, reader: Reader) -> None:
        try:
            reader.on_readable()
        except BaseException:  # noqa: BLE001 - as in `_run`
            self.hub.handle_error(reader, *sys.exc_info())

    def _try(self) -> None:
        """Read for those whose time has come to be tried; note whom to tell, watch the others."""
        untried = self._untried[0]
        read = os.read
        for reader in untried:
            if not reader.watched or reader.fd in self.readers:
                continue  # closed meanwhile, and maybe somebody else's by now
            if reader.reading:
                try:
                    reader.data = read(reader.fd, READ_SIZE)
                except BlockingIOError:
                    self.watch(reader)
                    continue
                except OSError as error:
                    reader.watched = False
                    reader.fail(error)
                    continue
                reader.reading = reader.watched = False
                self._ready.append(reader)
            else:
                self.watch(reader)
        untried.clear()
        self._untried.rotate(-1)

    def _write_requests(self, found: list[tuple[int, int]]) -> None:
        """Write the requests that are posted, as `_write` does, where there is nothing to read.

        `found`: what the epoll has just found. So the kernel need not be asked for each of them.
        """
        requests = self.requests
        stirred = dict(found)
        readers = self.readers
        all_may = len(found) == BURST  # more than were found may have something to read
        for poster in requests:
            if (
                (all_may or poster.fd in stirred or poster.fd not in readers)
                and poster.posted is not None
                and not poster.is_quiet()
            ):
                poster.fail(UnquietError())
        self._write(requests)

    def _write(self, posters: list[Poster]) -> None:
        """Write all that they have posted, as far as it goes out at once."""
        write = os.write
        for poster in posters:
            line = poster.posted
            if line is None or poster.sent:
                continue  # closed or written meanwhile, or its greenlet is at it
            try:
                poster.sent = write(poster.fd, line)
            except BlockingIOError:
                poster.on_unsent()
            except OSError as error:
                poster.fail(error)
            else:
                if poster.sent == len(line):
                    poster.posted = None
                else:
                    poster.on_unsent()
        posters.clear()
