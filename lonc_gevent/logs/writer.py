# SPDX-License-Identifier: GPL-2.0-or-later
"""The log writer: a bounded queue, and a thread that writes its lines to a descriptor.

Logging puts a line into the queue and never waits, however slow the descriptor's reader is. The
writer is a system thread, since a write to a pipe, a full disk or a hung file server blocks, and
would block the hub. Rules:

1. The queue is bounded in lines and in bytes. Once full, it refuses new lines until half of it is
   written, so a slow reader gets few long gaps in place of many short ones.
2. Lost lines leave their count in their place in the queue. When the writer reaches the count, it
   writes a line with it (`report`). So lines written + counts reported = lines put.
3. A line is written whole or not at all. The rest of a line that was written in part is written
   first, later.
4. After a failed write (no reader, no space) the lines of that write are lost, and the writer tries
   again after a pause.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LINES: Final = 10_000
MAX_BYTES: Final = 8 * 1024 * 1024
MAX_WRITE: Final = 64 * 1024  # bytes a write: what a Linux pipe holds
PAUSE: Final = 1.0  # seconds between a failed write and the next
# Seconds after a write in which the queue collects lines for the next one: waking the thread for
# each line is several times as expensive.
GATHER: Final = 0.005
FULL_AGAIN: Final = 0.001  # seconds, when poll returns "writable" and the write fails with EAGAIN
FLUSH_STEP: Final = 0.002  # seconds between two checks whether all is written


class LogWriter:
    """Writes whole lines to `fd`, in order, in its own thread.

    `report` returns the line for a number of lines lost at this place. The caller owns the
    descriptor: it may be blocking or not, and must stay open until `close` has returned True.
    """

    def __init__(
        self,
        fd: int,
        report: Callable[[int], bytes],
        *,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
        pause: float = PAUSE,
    ) -> None:
        self._fd = fd
        self._report = report
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._pause = pause
        # Never held during a write. Reentrant, as garbage collection inside `put` can log
        # (sys.unraisablehook).
        self._lock = threading.RLock()
        self._waiting: deque[bytes | int] = deque()  # a number is a count of lost lines
        self._bytes = 0
        self._full = False
        self._dropped = 0
        self._in_hand = False  # whether the thread has taken lines that are not yet written
        self._rest = b""  # of a line that was written in part
        self._asleep = False
        self._wakeup = threading.Lock()  # released to wake the thread, the only one to acquire it
        self._wakeup.acquire()
        self._closed = False
        self._pausing = threading.Event()  # set to end a pause early
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        """Return the state."""
        state = "closed" if self._closed else "full" if self._full else "open"
        return (
            f"<LogWriter fd={self._fd} {state} waiting={len(self._waiting)} bytes={self._bytes}"
            f" dropped={self._dropped}>"
        )

    @property
    def dropped(self) -> int:
        """Lines lost since the start, including those that are not yet reported."""
        return self._dropped

    def put(self, line: bytes) -> None:
        """Put a line, with its newline, into the queue, or count it as lost. Never waits."""
        with self._lock:
            size = self._bytes + len(line)
            if self._closed:
                self._dropped += 1  # too late to report
            elif self._full or size > self._max_bytes or len(self._waiting) >= self._max_lines:
                self._full = True
                self._lose_newest()
            else:
                self._bytes = size
                self._waiting.append(line)
                if self._asleep:
                    self._wake()

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until all lines are written; return whether they are.

        Blocks the calling thread with its hub, so it is for the end of the process.
        """
        deadline = time.monotonic() + timeout
        while not self._is_done():
            if time.monotonic() >= deadline:
                return False
            time.sleep(FLUSH_STEP)
        return True

    def close(self, timeout: float) -> bool:
        """Refuse new lines, write those in the queue, end the thread; return whether it has ended.

        Waits up to `timeout` seconds, as `flush` does. After a failed write the rest is lost.
        Returns False if the thread hangs in a write; it ends with that write or with the process.
        """
        with self._lock:
            self._closed = True
            if self._asleep:
                self._wake()
        self._pausing.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _is_done(self) -> bool:
        with self._lock:
            return not (self._in_hand or self._waiting or self._rest)

    # -- callers of put, lock held --------------------------------------------------------------

    def _lose_newest(self) -> None:
        self._dropped += 1
        newest = self._waiting[-1] if self._waiting else b""
        if isinstance(newest, int):
            self._waiting[-1] = newest + 1
        else:
            self._waiting.append(1)

    def _wake(self) -> None:
        self._asleep = False
        self._wakeup.release()

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        # The main thread handles signals; delivered to this one, a signal would wake it late.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            closed = (
                self._closed
            )  # read before the queue, so that lines put before `close` are written
            batch = self._take()
            if batch or self._rest:
                wrote = self._write(batch)
                self._in_hand = False
                if closed and not wrote:
                    break
                if not wrote:
                    self._pausing.wait(self._pause)
                elif not closed and not self._waiting:
                    time.sleep(GATHER)
            elif closed:
                break
            else:
                self._sleep()
        with self._lock:
            self._dropped += sum(isinstance(entry, bytes) for entry in self._waiting)
            self._waiting.clear()
            self._rest = b""

    def _sleep(self) -> None:
        with self._lock:
            if self._waiting or self._closed:
                return
            self._asleep = True
        self._wakeup.acquire()

    def _take(self) -> list[tuple[bytes, int]]:
        """Take lines for one write, each with 0 or the number of lost lines that it reports."""
        taken: list[bytes | int] = []
        size = len(self._rest)
        with self._lock:
            while self._waiting:
                entry = self._waiting[0]
                if isinstance(entry, bytes):
                    size += len(entry)
                    if size > MAX_WRITE and taken:
                        break
                    self._bytes -= len(entry)
                taken.append(self._waiting.popleft())
            self._in_hand = bool(taken)
            if (
                self._full
                and len(self._waiting) <= self._max_lines // 2
                and self._bytes <= self._max_bytes // 2
            ):
                self._full = False
        return [
            (entry, 0) if isinstance(entry, bytes) else (self._report(entry), entry)
            for entry in taken
        ]

    def _write(self, batch: list[tuple[bytes, int]]) -> bool:
        """Write the rest and the batch; return False if a write failed (the batch is settled)."""
        rest = self._rest
        data = memoryview(rest + b"".join(line for line, _ in batch))
        done = 0
        try:
            while done < len(data):
                done += self._write_some(data[done:])
        except OSError:
            self._rest = rest[done:]
            self._settle(batch, done - len(rest))
            return False
        self._rest = b""
        return True

    def _write_some(self, data: memoryview) -> int:
        poll = None
        while True:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:
                if poll is None:
                    poll = select.poll()
                    poll.register(self._fd, select.POLLOUT)
                else:
                    time.sleep(FULL_AGAIN)
                poll.poll()

    def _settle(self, batch: list[tuple[bytes, int]], done: int) -> None:
        """Keep the rest of a line that was written in part; count the lines after it as lost."""
        lines = reported = end = 0
        for line, gap in batch:
            start, end = end, end + len(line)
            if start < done < end:
                self._rest = line[done - start :]
            elif end > done and gap:
                reported += gap
            elif end > done:
                lines += 1
        lost = lines + reported
        with self._lock:
            self._dropped += lines
            oldest = self._waiting[0] if self._waiting else b""
            if isinstance(oldest, int):
                self._waiting[0] = oldest + lost
            elif lost:
                self._waiting.appendleft(lost)
