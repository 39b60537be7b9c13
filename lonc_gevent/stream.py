# SPDX-License-Identifier: GPL-2.0-or-later
"""A descriptor that a greenlet can wait on. Only this room and readiness.py know watchers.

It does what a gevent socket does, for a third of the price (measured when it was made):

- no socket object: making one from a descriptor is four system calls, this is none;
- once its descriptor is watched (readiness.py), it stays watched. There is nothing to tell the
  kernel between one wait and the next;
- read waits first, then reads: after an accept or a send there is nothing to read yet;
- a greenlet is woken by a plain switch. So wake-ups may be spurious, and every wait in this
  package is a loop around a condition: "is there data", "is the reply here";
- no timer per wait. `deadline` is written down, and the keeper's sweep calls `expire`.

A stream has one greenlet that waits on it at a time.
"""

from __future__ import annotations

import os
import select
from math import inf
from typing import TYPE_CHECKING, Final

from greenlet import getcurrent

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub
    from greenlet import greenlet

    from .readiness import Readiness
    from .rules.wire import Line

WRITE: Final = 2
READ_SIZE: Final = 16 * 1024
"""Bytes asked for by a read: most lines fit, and a bytes object of this size costs nothing."""
LARGE_READ_SIZE: Final = 256 * 1024
"""The same, for the reads that follow one that was full."""


def give_turn(hub: Hub) -> None:
    """Let every other greenlet that is ready run before this one goes on.

    As `gevent.sleep(0)`, which however does not stand a spurious wake-up, and which comes back
    before the loop has looked for new readiness: a timer comes back after that.
    """
    timer = hub.loop.timer(0)
    timer.start(getcurrent().switch)
    try:
        hub.switch()
    finally:
        timer.stop()
        timer.close()


def in_hub(hub: Hub, action: Callable[[], None]) -> None:
    """Run `action` in the hub, and return when it is done.

    For what switches to other greenlets: they come back to the hub, not to the one that calls. Not
    for a greenlet that others may wake meanwhile.
    """
    current = getcurrent()

    def act() -> None:
        try:
            action()
        finally:
            current.switch()

    hub.loop.run_callback(act)
    hub.switch()


class DeadlineError(Exception):
    """The stream's deadline passed while a greenlet waited on it."""


class Stream:
    """A non-blocking descriptor. Closing the stream closes the descriptor.

    `deadline` (monotonic seconds) is for whoever sweeps; `sent` is how many bytes of the
    last `write` the kernel took.
    """

    __slots__ = (
        "_armed",
        "_error",
        "_poll",
        "_read_size",
        "_readiness",
        "_waiter",
        "_write_waiter",
        "deadline",
        "fd",
        "hub",
        "sent",
    )

    def __init__(self, readiness: Readiness, fd: int = -1) -> None:
        self.hub: Hub = readiness.hub
        self.fd = -1
        self._readiness = readiness
        self._waiter: greenlet | None = None
        self._write_waiter: greenlet | None = None
        self._error: Exception | None = None
        self._armed = False
        self._poll: select.poll | None = None
        self.sent = 0
        self.deadline = inf
        self._read_size = READ_SIZE
        if fd >= 0:
            self.reopen(fd)

    def __repr__(self) -> str:
        waiting = self._waiter or self._write_waiter
        state = "closed" if self.fd < 0 else "waiting" if waiting else "ready"
        return f"<Stream {self.fd} {state}>"

    def reopen(self, fd: int) -> None:
        """Take another descriptor, already non-blocking, in place of the closed one."""
        self.fd = fd
        self._error = None
        self.deadline = inf
        self._read_size = READ_SIZE

    def wait_readable(self) -> None:
        """Wait until there may be something to read. Wakes for no reason, too.

        Raises DeadlineError when the deadline passed (see `expire`).
        """
        if self._error is not None:
            raise self._error
        if not self._armed:
            self._readiness.watch(self)
            self._armed = True
        self._waiter = getcurrent()
        try:
            self.hub.switch()
        finally:
            self._waiter = None
        if self._error is not None:
            raise self._error

    def on_readable(self) -> None:
        """Wake the greenlet that waits to read. Called by the readiness, in the hub."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            waiter.switch()
        elif self._armed:
            # Nobody wants it now (a client that closed early, a reply before the request was
            # out): without this it would be told again in each turn.
            self._readiness.unwatch(self.fd)
            self._armed = False

    def on_put_off(self) -> None:
        """Note that the readiness has ceased to watch; it wakes the greenlet later all the same."""
        self._armed = False

    def read(self) -> bytes:
        """Wait for bytes and return them; b"" is the end of the stream.

        Raises OSError, and DeadlineError.
        """
        size = self._read_size
        while True:
            # wait_readable, written out: two calls less in each request's way, 1 % of its time.
            if self._error is not None:
                raise self._error
            if not self._armed:
                self._readiness.watch(self)
                self._armed = True
            self._waiter = getcurrent()
            try:
                self.hub.switch()
            finally:
                self._waiter = None
            if self._error is not None:
                raise self._error
            try:
                data = os.read(self.fd, size)
            except BlockingIOError:
                continue
            if len(data) == size:
                self._read_size = LARGE_READ_SIZE
            return data

    def write(self, data: Line) -> None:
        """Write all of it.

        Raises OSError, and DeadlineError; `sent` then tells how far it came.
        """
        if not self.write_now(data):
            self.write_rest(data)

    def write_now(self, data: Line) -> bool:
        """Write what goes out without a wait; return whether that was all. Raises OSError."""
        self.sent = 0
        try:
            self.sent = os.write(self.fd, data)
        except BlockingIOError:
            return False
        return self.sent == len(data)

    def write_rest(self, data: Line) -> None:
        """Write what `write_now` left of the same data. Raises as `write` does."""
        with memoryview(data) as view:
            while self.sent < len(data):
                self._wait_writable()
                try:
                    self.sent += os.write(self.fd, view[self.sent :])
                except BlockingIOError:
                    continue

    def wait_connected(self) -> None:
        """Wait until the connection that was begun on this descriptor is made, or is not.

        Raises DeadlineError; SO_ERROR tells how it went.
        """
        self._wait_writable()

    def _wait_writable(self) -> None:
        if self._error is not None:
            raise self._error
        # A new watcher for each wait: waiting to write is rare.
        writer = self.hub.loop.io(self.fd, WRITE)
        self._write_waiter = getcurrent()
        writer.start(self._on_writable)
        try:
            while self._write_waiter and not self._error:
                self.hub.switch()
        finally:
            self._write_waiter = None
            writer.stop()
            writer.close()
        if self._error is not None:
            raise self._error

    def _on_writable(self) -> None:
        waiter, self._write_waiter = self._write_waiter, None
        if waiter is not None:
            waiter.switch()

    def is_quiet(self) -> bool:
        """Whether there is nothing to read: no byte, no end, no error. Never waits.

        Costs 0.25 us. `select.poll`, as `select.select` fails at descriptor 1024.
        """
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.fd, select.POLLIN)
        return not self._poll.poll(0)

    def expire(self, error: Exception | None = None) -> None:
        """Make the greenlet that waits here, or waits here next, raise the error."""
        self._error = error or DeadlineError()
        self.deadline = inf
        waiter = self._waiter or self._write_waiter
        if waiter is not None:
            self.hub.loop.run_callback(waiter.switch)

    def release(self) -> int:
        """Give the descriptor away, open as it is; the stream is as closed. -1: it was closed."""
        if self._armed:
            self._readiness.unwatch(self.fd)
            self._armed = False
        fd, self.fd = self.fd, -1
        self._poll = None
        return fd

    def close(self) -> None:
        """Close the descriptor. A greenlet that waits is not woken: `expire` first."""
        fd, self.fd = self.fd, -1
        self._poll = None
        if fd >= 0:
            os.close(fd)
            if self._armed:
                self._readiness.closed(fd)
                self._armed = False
