# SPDX-License-Identifier: GPL-2.0-or-later
"""Non-blocking descriptor with blocking-style read and write.

How it differs from a gevent socket, and why:

- It takes a descriptor, as making a socket object costs four system calls.
- Its read watcher stays started between two waits, so a descriptor is registered with epoll once.
- A wait has no timer of its own. `deadline` is a number, and the janitor calls `expire` when it
  has passed.
- A greenlet that waits is resumed by a plain switch, so a wait may end without a reason. Every
  wait is a loop around a condition.
"""

from __future__ import annotations

import os
import select
from contextlib import contextmanager, suppress
from math import inf
from typing import TYPE_CHECKING, Final

from greenlet import getcurrent

from .fairness import yield_to_others

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gevent.hub import Hub
    from greenlet import greenlet

_READ: Final = 1
_WRITE: Final = 2
"""The events of a libev watcher."""

SMALL_READ: Final = 479
"""Bytes of most reads: most lines fit, and a bytes object of this size is the largest that
Python's own allocator manages (512 bytes with its header)."""

MEDIUM_READ: Final = 16 * 1024
"""Bytes of the next read after one that returned SMALL_READ bytes."""

LARGE_READ: Final = 128 * 1024
"""Bytes of the next read after one that returned MEDIUM_READ bytes or more. With larger reads a
peer that never pauses delays all others, and each would map and unmap memory."""


class DeadlineError(Exception):
    """The deadline of a stream passed during a wait."""


class Stream:
    """A non-blocking descriptor, for one greenlet at a time. `close` closes the descriptor.

    deadline  when `expire` is to be called (monotonic seconds); set by the owner
    sent      how many bytes of the last `write` the kernel took
    """

    __slots__ = (
        "_expired",
        "_is_watched",
        "_poll",
        "_read_first",
        "_read_size",
        "_reader",
        "_unsent",
        "_watcher",
        "_writer",
        "deadline",
        "fd",
        "hub",
        "sent",
    )

    def __init__(self, hub: Hub) -> None:
        self.fd = -1
        self.deadline = inf
        self.sent = 0
        self.hub = hub
        self._watcher = hub.loop.io(0, _READ)
        self._is_watched = False
        self._reader: greenlet | None = None
        self._writer: greenlet | None = None
        self._poll: select.poll | None = None
        self._expired = False
        self._unsent: memoryview | None = None
        self._read_first = True
        self._read_size = SMALL_READ

    def __repr__(self) -> str:
        waits = self._reader is not None or self._writer is not None
        return f"<Stream {self.fd} {'closed' if self.fd < 0 else 'waiting' if waits else 'ready'}>"

    def open(self, fd: int, *, has_input: bool = False) -> None:
        """Take over a non-blocking descriptor; the stream must be closed, or new.

        has_input: input is likely there already, so the first read is tried without a wait.
        """
        self.fd = fd
        self.deadline = inf
        self._watcher.fd = fd  # type: ignore[attr-defined]
        self._expired = False
        self._read_first = has_input
        self._read_size = SMALL_READ

    # -- reading -----------------------------------------------------------------------------

    def read(self) -> bytes:
        """Wait for bytes and return them; b"" is the end of the stream.

        Raises OSError, and DeadlineError after `expire`, but only if there is nothing to read, as
        input that has arrived is returned first.
        """
        while True:
            if self._expired:
                yield_to_others(self.hub)  # there may be input for as long as the peer sends it
            elif not self._read_first:
                self.wait_readable()
            self._read_first = False
            try:
                data = os.read(self.fd, self._read_size)
            except BlockingIOError:
                if self._expired:
                    raise DeadlineError from None
                continue
            if len(data) == self._read_size:
                return self._read_more(data)
            return data

    def _read_more(self, data: bytes) -> bytes:
        """Read more after a full read, so that a long line arrives in few large pieces."""
        self._read_size = LARGE_READ if len(data) >= MEDIUM_READ else MEDIUM_READ
        try:
            return data + os.read(self.fd, self._read_size)
        except OSError:
            return data  # an error other than BlockingIOError is raised again by the next read

    def pause(self) -> None:
        """Wait until `resume`, whether there is input or not. Raises DeadlineError."""
        self._stop_watching()
        if self._expired:
            raise DeadlineError
        self._reader = getcurrent()
        try:
            self.hub.switch()
        finally:
            self._reader = None
        if self._expired:
            raise DeadlineError

    def wait_readable(self) -> None:
        """Wait until there may be input. May also return without a reason."""
        self._reader = getcurrent()
        if not self._is_watched:
            self._is_watched = True
            self._watcher.start(self._on_readable)
        try:
            self.hub.switch()
        finally:
            self._reader = None

    def _on_readable(self) -> None:
        if self._reader is None:
            # Nothing reads the input yet, and the level-triggered watcher would fire repeatedly.
            self._stop_watching()
        else:
            self._reader.switch()

    def _stop_watching(self) -> None:
        if self._is_watched:
            self._is_watched = False
            self._watcher.stop()

    # -- writing -----------------------------------------------------------------------------

    def write(self, data: bytes | bytearray, timeout: float | None = None) -> None:
        """Write all of the data.

        timeout: seconds after which `expire` is called, if not all was written at once.
        Raises OSError, and DeadlineError after `expire`; `sent` is then the bytes written.
        """
        self.sent = 0  # also if the write raises
        try:
            self.sent = os.write(self.fd, data)
        except BlockingIOError:
            self.sent = 0
        if self.sent == len(data):
            return
        if timeout is None:
            self._write_rest(data)
            return
        with self.expiring(timeout):
            self._write_rest(data)

    def _write_rest(self, data: bytes | bytearray) -> None:
        with memoryview(data) as view:
            self._unsent = view
            try:
                while self.sent < len(view):
                    self.wait_writable()
                    with suppress(BlockingIOError):
                        self.sent += os.write(self.fd, view[self.sent :])
            finally:
                self._unsent = None

    @property
    def unsent(self) -> bytes:
        """The bytes that a `write` in progress has not written yet."""
        return b"" if self._unsent is None else bytes(self._unsent[self.sent :])

    def wait_writable(self) -> None:
        """Wait until the descriptor is writable, or until a connection attempt has ended.

        Raises DeadlineError after `expire`, if it is still not writable. SO_ERROR holds the result
        of a connection attempt.
        """
        watcher = self.hub.loop.io(self.fd, _WRITE)  # rare: a new one for each wait
        self._writer = getcurrent()
        watcher.start(self._on_writable)
        try:
            while self._writer is not None and not self._expired:
                self.hub.switch()
        finally:
            self._writer = None
            watcher.stop()
            watcher.close()
        if self._expired and not self._is_writable():
            raise DeadlineError

    def _on_writable(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.switch()

    # -- both --------------------------------------------------------------------------------

    def has_input(self) -> bool:
        """Whether there is input: bytes, the end of the stream or an error. Never waits."""
        if self._poll is None:
            self._poll = self._make_poll()
        return bool(self._poll.poll(0))

    def is_disconnected(self) -> bool:
        """Whether the peer has closed its end for reading and writing. Never waits."""
        if self._poll is None:
            self._poll = self._make_poll()
        events = self._poll.poll(0)
        return bool(events and events[0][1] & select.POLLHUP)

    def _make_poll(self) -> select.poll:
        poll = select.poll()  # not select.select, which fails from descriptor 1024 on
        poll.register(self.fd, select.POLLIN)
        return poll

    def _is_writable(self) -> bool:
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        return bool(poll.poll(0))

    @contextmanager
    def expiring(self, seconds: float) -> Iterator[None]:
        """Call `expire` after so many seconds, unless the block has ended by then."""
        timer = self.hub.loop.timer(seconds)
        timer.start(self.expire)
        try:
            yield
        finally:
            timer.stop()
            timer.close()

    def expire(self) -> None:
        """Make the current wait, and each later one, raise DeadlineError.

        A read still returns bytes that have arrived, and a write goes on if the descriptor is
        writable. So a process that was stopped past its deadlines loses no reply that came in time.
        """
        self._expired = True
        self.deadline = inf
        self.resume()

    def resume(self) -> None:
        """Switch to the waiting greenlet, if any, in a callback of the loop."""
        waiter = self._writer if self._reader is None else self._reader
        if waiter is not None:
            self.hub.loop.run_callback(waiter.switch)

    def release(self) -> int:
        """Return the open descriptor, or -1 if closed; the stream is closed afterwards."""
        fd, self.fd = self.fd, -1
        self._stop_watching()
        self._poll = self._reader = None
        return fd

    def close(self) -> None:
        """Close the descriptor. A greenlet that waits is not resumed: call `expire` first."""
        fd = self.release()
        if fd >= 0:
            os.close(fd)
