# SPDX-License-Identifier: GPL-2.0-or-later
"""The bounded writer against real descriptors: frozen, slow, closed, non-blocking, full."""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lonc_gevent.logs.writer import LogWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEADLINE = 10.0
PIPE_BYTES = 4096  # small pipes, so that a few lines fill one


def report(lost: int) -> bytes:
    """Return a line with the number of lost lines, as the daemon's `log_lines_dropped`."""
    return b"dropped %d\n" % lost


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until the condition holds; fail after the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@contextmanager
def pipe() -> Iterator[list[int]]:
    """Make a small pipe: [read end, write end]. A test that closes an end sets it to -1."""
    ends = list(os.pipe())
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    try:
        yield ends
    finally:
        for end in ends:
            if end >= 0:
                os.close(end)


def drain(fd: int, writer: LogWriter) -> bytes:
    """Read until the writer has written all lines and the pipe is empty."""
    os.set_blocking(fd, False)
    got = b""
    deadline = time.monotonic() + DEADLINE
    while True:
        done = writer.flush(0)
        try:
            got += os.read(fd, 1 << 16)
        except BlockingIOError:
            if done:
                return got
            time.sleep(0.001)
        assert time.monotonic() < deadline


def numbered(count: int) -> list[bytes]:
    """Make numbered lines of 100 bytes each."""
    return [b"%06d " % i + b"x" * 92 + b"\n" for i in range(count)]


def account(text: bytes, sent: list[bytes]) -> int:
    """Check that each line is whole, in order, and each gap is reported in its place with its size.

    Return how many are missing in all.
    """
    at = missing = 0
    assert text.endswith(b"\n")
    for line in text.splitlines(keepends=True):
        if line.startswith(b"dropped "):
            missing += int(line.split()[1])
            at += int(line.split()[1])
        else:
            assert line == sent[at]
            at += 1
    assert at == len(sent)
    return missing


def test_lines_are_written_whole_and_in_order() -> None:
    """Many more lines than one write can take arrive as they were put."""
    sent = numbered(3000)
    with pipe() as (read_end, write_end):
        writer = LogWriter(write_end, report)
        for line in sent:
            writer.put(line)
        got = drain(read_end, writer)

        assert repr(writer) == f"<LogWriter fd={write_end} open waiting=0 bytes=0 dropped=0>"
        assert writer.close(DEADLINE)
        assert " closed " in repr(writer)
    assert got == b"".join(sent)
    assert writer.dropped == 0


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "nonblocking"])
@pytest.mark.parametrize("bound", ["lines", "bytes"])
def test_with_a_frozen_reader_put_returns_and_lines_are_counted(
    blocking: bool, bound: str, tmp_path: Path
) -> None:
    """With the reading process stopped, `put` does not wait, and each lost line is reported."""
    sent = numbered(30_000)
    limits = {"max_lines": 5000} if bound == "lines" else {"max_bytes": 500_000}
    read_end, write_end = os.pipe()
    with (tmp_path / "out").open("wb") as out:
        reader = subprocess.Popen(["cat"], stdin=read_end, stdout=out)
    os.close(read_end)
    os.set_blocking(write_end, blocking)
    reader.send_signal(signal.SIGSTOP)
    writer = LogWriter(write_end, report, **limits)

    for line in sent[:-1]:  # with a put that waits, this would never end
        writer.put(line)
    dropped = writer.dropped

    reader.send_signal(signal.SIGCONT)
    assert writer.flush(DEADLINE)
    writer.put(sent[-1])
    assert writer.close(DEADLINE)
    os.close(write_end)
    assert reader.wait(DEADLINE) == 0

    # The queue, the pipe and the write under way hold some; all else must have been refused.
    assert 24_000 - (64 * 1024 * 2) // 100 <= dropped < 25_000
    assert account((tmp_path / "out").read_bytes(), sent) == dropped == writer.dropped


def test_a_gap_is_reported_without_another_event() -> None:
    """The number of lost lines is written as soon as the reader reads, not with the next event."""
    sent = numbered(300)
    with pipe() as (read_end, write_end):
        writer = LogWriter(write_end, report, max_lines=10)
        for line in sent:
            writer.put(line)
        got = drain(read_end, writer)
        assert writer.close(DEADLINE)

    assert account(got, sent) == writer.dropped > 0


def test_a_full_queue_accepts_lines_again_when_half_is_written() -> None:
    """A reader that is slightly too slow gets few gaps, not one after each line."""
    with pipe() as (read_end, write_end):
        os.set_blocking(write_end, False)
        writer = LogWriter(write_end, report, max_lines=5000)
        sent = numbered(30_000)
        got = b""
        for line in sent:
            writer.put(line)
            if int(line[:6]) % 20 == 19:
                got += os.read(read_end, 1000)  # half of what came
        got += drain(read_end, writer)
        assert writer.close(DEADLINE)

    assert account(got, sent) == writer.dropped > 0
    assert got.count(b"dropped ") <= 10  # 15,000 lines lost; and it opens after 2,500 lines read


def test_waiting_for_a_reader_of_a_nonblocking_pipe_uses_no_processor_time() -> None:
    with pipe() as (read_end, write_end):
        os.set_blocking(write_end, False)
        writer = LogWriter(write_end, report)
        for line in numbered(200):
            writer.put(line)
        eventually(lambda: writer._in_hand)
        before = resource.getrusage(resource.RUSAGE_SELF)
        assert not writer.flush(0.3)
        after = resource.getrusage(resource.RUSAGE_SELF)
        drain(read_end, writer)
        assert writer.close(DEADLINE)

    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.15


def test_with_a_closed_reader_lines_are_lost_without_a_busy_loop() -> None:
    """Without a reader, lines are lost and counted, and closing still works."""
    with pipe() as ends:
        writer = LogWriter(ends[1], report, pause=0.05)
        os.close(ends[0])
        ends[0] = -1
        writer.put(b"one\n")
        eventually(lambda: writer.dropped == 1)
        before = time.process_time()
        assert not writer.flush(0.3)  # its report still waits
        used = time.process_time() - before
        writer.put(b"two\n")
        eventually(lambda: writer.dropped == 2)
        started = time.monotonic()
        assert writer.close(DEADLINE)

        assert time.monotonic() - started < DEADLINE / 2
    assert used < 0.15
    writer.put(b"after the end\n")
    assert writer.dropped == 3


def test_the_next_reader_of_a_fifo_gets_the_rest_of_a_line_first(tmp_path: Path) -> None:
    """A line written in part for a reader that closed is completed before anything else."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    sent = numbered(500)
    writer = LogWriter(fd, report, pause=0.02)
    for line in sent[:300]:
        writer.put(line)
    eventually(lambda: writer._in_hand)
    got = os.read(reader, 1 << 16)
    eventually(lambda: _unread(reader) > 0)  # it goes on, and is cut inside a line
    got += os.read(reader, 1 << 16)
    os.close(reader)
    eventually(lambda: writer.dropped > 0)
    for line in sent[300:]:
        writer.put(line)

    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        got += drain(reader, writer)
        assert writer.close(DEADLINE)
    finally:
        os.close(reader)
        os.close(fd)

    assert account(got, sent) == writer.dropped


def _unread(fd: int) -> int:
    """Return the number of bytes in the pipe (FIONREAD)."""
    return int.from_bytes(fcntl.ioctl(fd, 0x541B, b"\0" * 4), "little")


def test_a_full_device_loses_lines_and_close_works() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        writer = LogWriter(fd, report, pause=0.02)
        for line in numbered(100):
            writer.put(line)
        eventually(lambda: writer.dropped == 100)
        assert writer.close(DEADLINE)
    finally:
        os.close(fd)


def test_a_line_cut_by_a_full_disk_is_completed_later(tmp_path: Path) -> None:
    """Once there is space, the rest of the line is written, and after it the report of the gap."""
    sent = numbered(40)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    writer = LogWriter(fd, report, pause=0.02)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1234, hard))
        for line in sent[:20]:
            writer.put(line)
        eventually(lambda: writer.dropped > 0)
        assert (tmp_path / "log").stat().st_size == 1234
        resource.setrlimit(resource.RLIMIT_FSIZE, (1250, hard))
        eventually(lambda: (tmp_path / "log").stat().st_size == 1250)  # cut again, same line
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert writer.flush(DEADLINE)
        for line in sent[20:]:
            writer.put(line)
        assert writer.close(DEADLINE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
        os.close(fd)

    assert account((tmp_path / "log").read_bytes(), sent) == writer.dropped == 7


def test_close_returns_false_at_its_timeout_with_a_frozen_reader() -> None:
    with pipe() as ends:
        writer = LogWriter(ends[1], report)
        for line in numbered(300):
            writer.put(line)
        eventually(lambda: writer._in_hand)
        assert not writer.flush(0.05)
        started = time.monotonic()

        assert not writer.close(0.1)

        assert time.monotonic() - started < 2
        os.close(ends[0])  # lets the thread go
        ends[0] = -1
        assert writer.close(DEADLINE)


def test_a_line_put_just_before_the_thread_sleeps_is_written() -> None:
    """A line and a close just after the thread found its queue empty lose nothing."""

    class Late(LogWriter):
        late = False

        def _take(self) -> list[tuple[bytes, int]]:
            batch = super()._take()
            if not self.late:
                self.late = True
                self.put(b"late\n")
                self._closed = True
            return batch

    with pipe() as (read_end, write_end):
        writer = Late(write_end, report)
        assert writer.close(DEADLINE)

        assert os.read(read_end, 100) == b"late\n"


def test_put_is_reentrant_for_finalizers() -> None:
    """A `__del__` that runs inside `put` may log, as sys.unraisablehook does, without a hang."""
    with pipe() as (read_end, write_end):
        writer = LogWriter(write_end, report)

        class Dying:
            def __del__(self) -> None:
                writer.put(b"died\n")

        with writer._lock:  # the moment that matters
            Dying()
            gc.collect()
        assert drain(read_end, writer) == b"died\n"
        assert writer.close(DEADLINE)
        del Dying
