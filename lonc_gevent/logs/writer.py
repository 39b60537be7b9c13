# SPDX-License-Identifier: GPL-2.0-or-later
"""The one log writer: a bounded queue, and a thread that writes it to a descriptor.

Whoever logs only puts a line into the queue; that never waits, whatever the descriptor's reader
does. The thread is a real one, as a write to a pipe, a full disk or a hung file server cannot be
waited for in the hub. Rules:

1. The queue is bounded in lines and in bytes. Full, it refuses new lines until half of it is
   written; so a reader that is too slow gets few long gaps, not many short ones.
2. What is lost leaves its count in its place in the queue, and the count becomes a line of its own
   (`report`) when its turn comes. So lines written + counts reported = lines put.
3. A line is written whole or not at all. Of one that was begun the rest is written first, later.
4. A descriptor that refuses (no reader, no space) costs the lines in hand, and is tried again after
   a pause.
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
PAUSE: Final = 1.0  # seconds before a descriptor that refused is tried again
# Seconds in which lines gather after a write. With 900 lines/s, one at a time, a line then costs
# the process 4 to 12 us more; without it, where each line wakes the thread, 33 to 42 us.
GATHER: Final = 0.005
FULL_AGAIN: Final = 0.001  # seconds, when poll says writable and the write says not
FLUSH_STEP: Final = 0.002  # seconds between two looks of somebody who waits for the end


class LogWriter:
    """Writes whole lines to `fd`, in order, in its own thread.

    `report` makes the line that says how many lines are missing at this place. The descriptor stays
    the caller's: it may be blocking or not, and must stay open until `close` returned True.
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
        # Held for moments only, never during a write. Reentrant, as a collection of garbage inside
        # `put` can log (sys.unraisablehook).
        self._lock = threading.RLock()
        self._waiting: deque[bytes | int] = deque()  # a number stands for so many lost lines
        self._bytes = 0
        self._full = False
        self._dropped = 0
        self._in_hand = False  # the thread has lines that are not in the queue any more
        self._rest = b""  # of a line that was begun
        self._asleep = False
        self._bell = threading.Lock()  # released to wake the thread; it alone acquires it
        self._bell.acquire()
        self._closed = False
        self._pausing = threading.Event()  # set to end a pause early
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        """State for people and tests."""
        state = "closed" if self._closed else "full" if self._full else "open"
        return (
            f"<LogWriter fd={self._fd} {state} waiting={len(self._waiting)} bytes={self._bytes}"
            f" dropped={self._dropped}>"
        )

    @property
    def dropped(self) -> int:
        """Lines lost since the start, those included that are not reported yet."""
        return self._dropped

    def put(self, line: bytes) -> None:
        """Take a line, with its newline, to be written; or count it as lost. Never waits."""
        with self._lock:
            size = self._bytes + len(line)
            if self._closed:
                self._dropped += 1  # nobody will report it
            elif self._full or size > self._max_bytes or len(self._waiting) >= self._max_lines:
                self._full = True
                self._lose_newest()
            else:
                self._bytes = size
                self._waiting.append(line)
                if self._asleep:
                    self._wake()

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until nothing waits any more; False if something still does.

        It holds up the calling thread, hub and all: for the last moment before an end.
        """
        deadline = time.monotonic() + timeout
        while not self._is_done():
            if time.monotonic() >= deadline:
                return False
            time.sleep(FLUSH_STEP)
        return True

    def close(self, timeout: float) -> bool:
        """Take no more lines, write those that wait, end the thread. True if it ended in time.

        Waits up to `timeout` seconds, as `flush` does. If the descriptor refuses now, the rest is
        lost. False: the thread hangs in a write, and ends when that does, or with the process.
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

    # -- whoever logs, lock held --------------------------------------------------------------

    def _lose_newest(self) -> None:
        self._dropped += 1
        newest = self._waiting[-1] if self._waiting else b""
        if isinstance(newest, int):
            self._waiting[-1] = newest + 1
        else:
            self._waiting.append(1)

    def _wake(self) -> None:
        self._asleep = False
        self._bell.release()

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        # Signals are the main thread's: one that arrives here would wake it late.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            closed = self._closed  # looked at first: what was put before it must still go out
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
        self._bell.acquire()

    def _take(self) -> list[tuple[bytes, int]]:
        """Take lines for one write; each with 0, or with the number of lines it reports lost."""
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
        """Write the rest and the batch; False if the descriptor refused (the batch is settled)."""
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
        """After `done` bytes of the batch: keep the rest of a begun line, count what is lost."""
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
