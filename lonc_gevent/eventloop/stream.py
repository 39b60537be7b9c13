# SPDX-License-Identifier: GPL-2.0-or-later
"""A descriptor that a greenlet can wait on. Only this room and turns.py know watchers.

It does what a gevent socket does, for a third of the price (measured when it was made):

- no socket object: making one from a descriptor is four system calls, this is none;
- once its descriptor is watched, it stays so: there is nothing to tell the kernel for each wait;
- read waits first, and a turn (turns.py) reads, for all that have something at once; `post` lets
  it write for all, too;
- a greenlet is woken by a plain switch. So wake-ups may be spurious, and every wait in this
  package is a loop around a condition: "is there data", "is the reply here";
- no timer per wait. `deadline` is written down, and the keeper's sweep calls `expire`.

One greenlet at a time waits on a stream.
"""

from __future__ import annotations

import os
import select
from math import inf
from typing import TYPE_CHECKING, Final

from greenlet import getcurrent

from .participants import DeadlineError, UnsentError
from .turns import PATIENCE, READ_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub
    from greenlet import greenlet

    from lonc_gevent.protocol.lines import Line

    from .turns import Turns

WRITE: Final = 2
"""Of a watcher of the loop: call when there is room to write."""
MORE: Final = 16 * 1024
"""Bytes asked for at once where READ_SIZE was not enough."""
LARGE: Final = 256 * 1024
"""The same, where as many as MORE were there last."""


class Stream:
    """A non-blocking descriptor. Closing the stream closes the descriptor.

    `deadline` (monotonic seconds) is for whoever sweeps; `sent` is how many bytes of the last write
    the kernel took, `posted` what it is of, until it is all out. `on_end` is called, in the hub, if
    the other side has ended while nothing was posted: True, and the greenlet that waits sleeps on.
    """

    __slots__ = (
        "_error",
        "_may_leave",
        "_may_write",
        "_poll",
        "_turns",
        "_waiter",
        "_write_waiter",
        "asks",
        "data",
        "deadline",
        "fd",
        "hub",
        "on_end",
        "posted",
        "reading",
        "reads_large",
        "sent",
        "watched",
    )

    accepts: Final = False

    def __init__(self, turns: Turns, fd: int = -1) -> None:
        self.hub: Hub = turns.hub
        self.fd = -1
        self._turns = turns
        self._waiter: greenlet | None = None
        self._write_waiter: greenlet | None = None
        self._error: Exception | None = None
        self._may_write = False  # the error is for those who read
        self._may_leave = False  # accepted, and not waited for yet after a line was posted
        self.watched = False  # the turns watch it, or are to try it
        self._poll: select.poll | None = None
        self.reading = False  # a turn is to read for the greenlet that waits; into `data`
        self.data: bytes | None = None
        self.posted: Line | None = None
        self.sent = 0
        self.on_end: Callable[[], bool] = bool  # bool() says no
        self.asks = False
        self.deadline = inf
        self.reads_large = False
        if fd >= 0:
            self.reopen(fd)

    def __repr__(self) -> str:
        waits = self._waiter is not None or self._write_waiter is not None
        state = "closed" if self.fd < 0 else "waiting" if waits else "ready"
        return f"<Stream {self.fd} {state}>"

    def reopen(self, fd: int, reader: greenlet | None = None) -> None:
        """Take another descriptor, already non-blocking, in place of the closed one.

        `reader`: switched to when there is something to read, as if it waited in `read` already.
        """
        self.fd = fd
        self._error = None
        self.deadline = inf
        self.reads_large = False
        self._waiter = reader
        self._may_leave = reader is not None
        if reader is not None:
            self.reading = self.watched = True
            self._turns.expect(self, 0)

    # -- reading -----------------------------------------------------------------------------

    def wait_readable(self) -> None:
        """Wait until there may be something to read. Wakes for no reason, too.

        Raises DeadlineError when the deadline passed (see `expire`).
        """
        if self._error is not None:
            raise self._error
        self._waiter = getcurrent()
        if not self.watched:
            self._watch()
        try:
            self.hub.switch()
        finally:
            self._waiter = None
        if self._error is not None:
            raise self._error

    def read(self) -> bytes:
        """Wait for bytes and return them; b"" is the end of the stream.

        Raises OSError, DeadlineError, and of what was posted UnsentError and UnquietError.
        """
        data = self.data
        while data is None:
            # wait_readable, written out: two calls less in each request's way.
            if self._error is not None:
                raise self._error
            self._waiter = getcurrent()
            self.reading = not self.reads_large
            if not self.watched:
                self._watch()
            try:
                self.hub.switch()
            finally:
                self._waiter = None
                self.reading = False
            if self._error is not None:
                raise self._error
            if self.posted is not None:
                raise UnsentError  # what was read stays in `data` meanwhile
            data = self.data
            if data is None:
                data = self._read_now()
        self.data = None
        return data if len(data) < READ_SIZE else self._with_more(data)

    def _read_now(self) -> bytes | None:
        """Read what a turn has not read for this stream; None: wait again."""
        try:
            data = os.read(self.fd, LARGE if self.reads_large else READ_SIZE)
        except BlockingIOError:
            return None
        if self.reads_large:
            self.reads_large = len(data) >= MORE
        return data

    def _with_more(self, data: bytes) -> bytes:
        """Add what else there is now to a read that was full."""
        if self.reads_large or len(data) > READ_SIZE:
            return data
        try:
            more = os.read(self.fd, MORE)
        except OSError:
            return data  # no more; if that is an error, the next read meets the end
        self.reads_large = len(more) == MORE
        return data + more

    def _watch(self) -> None:
        self.watched = True
        if self._may_leave and self.posted is not None:
            # Once: a client that has asked again is likely to stay.
            self._may_leave = False
            self._turns.expect(self, PATIENCE)
        else:
            self._turns.watch(self)

    def on_readable(self) -> None:
        """Wake the greenlet that waits to read. Called by the turns, in the hub."""
        waiter = self._waiter
        if waiter is None:
            # Nobody wants it now: without this it would be told again in each turn.
            self._turns.unwatch(self.fd)
            self.watched = False
        elif self.data != b"" or self.posted is not None or not self.on_end():
            self._waiter = None
            waiter.switch()

    # -- writing -----------------------------------------------------------------------------

    def post(self, data: Line) -> None:
        """Have it written at the end of this turn, with what others post. Then `read`.

        Whatever comes of it is the reader's to see: OSError, or UnsentError (`sent` tells how far
        it came); if it `asks`, UnquietError: not written, as there is something to read already.
        """
        self.posted = data
        self.sent = 0
        turns = self._turns
        (turns.requests if self.asks else turns.replies).append(self)
        if turns.at_rest:
            turns.come()

    def answer(self, line: Line, waiter: greenlet) -> None:
        """Post a line in another greenlet's place, and let that one wait as if it were in `read`.

        It is woken when there is something to read, or what `post` tells of.
        """
        self.post(line)
        self._waiter = waiter
        self.reading = not self.reads_large
        if not self.watched:
            self._watch()

    def on_unsent(self) -> None:
        """Tell the reader that not all went out that was posted. Called by the turns."""
        if self._waiter is not None:
            self._turns.wake(self._waiter)

    def write(self, data: Line) -> None:
        """Write all of it. Raises OSError, and DeadlineError: `sent` tells how far it came."""
        if not self.write_now(data):
            self.write_rest()

    def write_now(self, data: Line) -> bool:
        """Write what goes out without a wait; return whether that was all. Raises OSError."""
        self.posted = data
        self.sent = 0
        try:
            self.sent = os.write(self.fd, data)
        except BlockingIOError:
            return False
        if self.sent < len(data):
            return False
        self.posted = None
        return True

    def write_rest(self) -> None:
        """Write what is left of what was posted, or of `write_now`. Raises as `write` does."""
        if self.posted is None:
            return
        # A turn looks before it writes a request: so wait for it. Anything else is tried at once,
        # as its writer may be here only because it was asked more meanwhile.
        waits = self.asks
        try:
            with memoryview(self.posted) as view:
                while self.sent < len(view):
                    if waits:
                        self.wait_writable()
                        if self.sent == len(view):
                            break  # a turn has written it
                    waits = True
                    try:
                        self.sent += os.write(self.fd, view[self.sent :])
                    except BlockingIOError:
                        continue
        finally:
            self.posted = None

    def wait_writable(self) -> None:
        """Wait until there is room to write; or a connection that was begun is made, or is not.

        Raises DeadlineError; SO_ERROR tells how it went with a connection.
        """
        if self._error is not None and not self._may_write:
            raise self._error
        # Rare: so there is a new watcher for each wait.
        writer = self.hub.loop.io(self.fd, WRITE)
        self._write_waiter = getcurrent()
        writer.start(self._on_writable)
        try:
            while self._write_waiter and (self._error is None or self._may_write):
                self.hub.switch()
        finally:
            self._write_waiter = None
            writer.stop()
            writer.close()
        if self._error is not None and not self._may_write:
            raise self._error

    def _on_writable(self) -> None:
        waiter, self._write_waiter = self._write_waiter, None
        if waiter is not None:
            waiter.switch()

    # -- both --------------------------------------------------------------------------------

    def is_quiet(self) -> bool:
        """Whether there is nothing to read: no byte, no end, no error. Never waits."""
        if self._poll is None:  # `select.select` fails at descriptor 1024
            self._poll = select.poll()
            self._poll.register(self.fd, select.POLLIN)
        return not self._poll.poll(0)

    def expire(self) -> None:
        """Make the greenlet that waits here, or waits here next, raise DeadlineError."""
        self.fail(DeadlineError())

    def fail(self, error: Exception, *, readers_only: bool = False) -> None:
        """Let who waits here, or waits here next, raise the error (readers_only: to read)."""
        self._error = error
        self._may_write = readers_only
        self.reading = False  # what is read now would be lost
        self.deadline = inf
        if not readers_only:
            self.posted = None
        # Not `or`: a greenlet that has not begun yet is false.
        waiter = self._write_waiter if self._waiter is None else self._waiter
        if waiter is not None:
            self._turns.wake(waiter)

    def release(self) -> int:
        """Give the descriptor away, open as it is; the stream is as closed. -1: it was closed."""
        self._turns.unwatch(self.fd)
        return self._let_go()

    def close(self) -> None:
        """Close the descriptor. A greenlet that waits is not woken: `expire` first."""
        fd = self._let_go()
        if fd >= 0:
            os.close(fd)
            self._turns.readers.pop(fd, None)  # the kernel has forgotten it, too

    def _let_go(self) -> int:
        fd, self.fd = self.fd, -1
        self.watched = False
        # The error, too: its traceback holds lines.
        self._error = self._poll = self._waiter = self.data = self.posted = None
        return fd
