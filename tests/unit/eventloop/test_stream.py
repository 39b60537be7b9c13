# SPDX-License-Identifier: GPL-2.0-or-later
"""Stream over real socket pairs: what ends a wait, and what has arrived by then."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from lonc_gevent.eventloop import DeadlineError, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = 2_000_000


class Ends:
    """A stream, and the other end of its socket."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        self.stream = Stream(gevent.get_hub())
        self.stream.open(ours.detach())


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Give a pair."""
    made = Ends()
    yield made
    made.peer.close()
    made.stream.close()


def waiting(function: Any, *arguments: Any) -> gevent.Greenlet[..., Any]:
    """Begin a call in a greenlet that is to wait in it."""
    greenlet = gevent.spawn(function, *arguments)
    gevent.idle()
    assert not greenlet.ready()
    return greenlet


def test_read_waits_for_bytes(ends: Ends) -> None:
    """And returns them."""
    reader = waiting(ends.stream.read)
    ends.peer.send(b"some")
    assert reader.get(timeout=5) == b"some"


def test_read_returns_empty_bytes_at_the_end(ends: Ends) -> None:
    """As a socket's recv does."""
    reader = waiting(ends.stream.read)
    ends.peer.close()
    assert reader.get(timeout=5) == b""


@pytest.mark.parametrize("size", [478, 479, 480, 479 + 16 * 1024, LARGE])
def test_reads_return_all_bytes_in_order(ends: Ends, size: int) -> None:
    """Around the sizes of single reads, too."""
    data = os.urandom(size)
    sender = gevent.get_hub().threadpool.spawn(ends.peer.sendall, data)
    got = b""
    with gevent.Timeout(10):
        while len(got) < size:
            got += ends.stream.read()
    sender.get()
    assert got == data


def test_a_spurious_resume_does_not_end_a_read(ends: Ends) -> None:
    """Every wait is a loop around a condition."""
    reader = waiting(ends.stream.read)
    for _ in range(3):
        ends.stream.resume()
        gevent.idle()
    assert not reader.ready()
    ends.peer.send(b"x")
    assert reader.get(timeout=5) == b"x"


def test_input_that_is_not_read_does_not_spin_the_loop(ends: Ends) -> None:
    """The read watcher stays started between waits; with no reader it must stop itself."""
    ends.peer.send(b"a")
    assert ends.stream.read() == b"a"
    ends.peer.send(b"b")
    gevent.idle()
    gevent.idle()
    assert not ends.stream._is_watched
    assert ends.stream.read() == b"b"


def test_expire_ends_a_read_without_input(ends: Ends) -> None:
    """Each later one, too."""
    reader = waiting(ends.stream.read)
    ends.stream.expire()
    for call in (lambda: reader.get(timeout=5), ends.stream.read):
        with pytest.raises(DeadlineError):
            call()


def test_bytes_that_have_arrived_count_after_expire(ends: Ends) -> None:
    """A process that was stopped past its deadline finds reply and deadline at once."""
    reader = waiting(ends.stream.read)
    ends.peer.send(b"in time")
    ends.stream.expire()
    assert reader.get(timeout=5) == b"in time"
    with pytest.raises(DeadlineError):
        ends.stream.read()


def test_write_waits_until_writable_and_writes_all(ends: Ends) -> None:
    """However slowly the peer reads."""
    data = os.urandom(LARGE)
    writer = waiting(ends.stream.write, data)
    got = b""
    while len(got) < LARGE:
        got += ends.peer.recv(65536)
        gevent.idle()
    writer.get(timeout=5)
    assert got == data
    assert ends.stream.sent == LARGE


def test_write_raises_deadline_error_after_its_timeout(ends: Ends) -> None:
    """`sent` is then the number of bytes written."""
    with pytest.raises(DeadlineError):
        ends.stream.write(b"x" * LARGE, 0.05)
    assert 0 < ends.stream.sent < LARGE


def test_others_run_between_the_reads_of_an_expired_stream(ends: Ends) -> None:
    """Its input may never end."""
    rounds = 0

    def count() -> None:
        nonlocal rounds
        while True:
            gevent.sleep(0)
            rounds += 1

    counter = gevent.spawn(count)
    ends.stream.expire()
    for number in range(3):
        ends.peer.send(b"x")
        assert ends.stream.read() == b"x"
        assert rounds >= number
    counter.kill()


def test_write_goes_on_after_expire_while_writable(ends: Ends) -> None:
    """The peer has read meanwhile, so more is written before DeadlineError is raised."""
    writer = waiting(ends.stream.write, b"x" * LARGE)
    sent = ends.stream.sent
    assert ends.peer.recv(LARGE)
    ends.stream.expire()
    with pytest.raises(DeadlineError):
        writer.get(timeout=5)
    assert ends.stream.sent > sent


def test_unsent_is_the_rest_of_a_write_in_progress(ends: Ends) -> None:
    """It is what a restart in place hands over; before and after a write there is none."""
    data = os.urandom(LARGE)
    assert ends.stream.unsent == b""
    writer = waiting(ends.stream.write, data)
    sent = ends.stream.sent
    assert 0 < sent < LARGE
    assert ends.stream.unsent == data[sent:]
    ends.stream.expire()
    with pytest.raises(DeadlineError):
        writer.get(timeout=5)
    assert ends.stream.unsent == b""


def test_write_to_a_closed_peer_raises_os_error(ends: Ends) -> None:
    """`sent` is 0, so the request may be sent on another connection."""
    ends.peer.close()
    with pytest.raises(BrokenPipeError):
        ends.stream.write(b"x")
    assert ends.stream.sent == 0


@pytest.mark.parametrize("close", [False, True])
def test_has_input_sees_bytes_and_the_end(ends: Ends, close: bool) -> None:
    """Both mean that a request must not be written."""
    assert not ends.stream.has_input()
    if close:
        ends.peer.close()
    else:
        ends.peer.send(b"x")
    assert ends.stream.has_input()


def test_is_disconnected_only_after_a_whole_close(ends: Ends) -> None:
    """A peer that half-closes still reads its reply."""
    assert not ends.stream.is_disconnected()
    ends.peer.shutdown(socket.SHUT_WR)
    assert not ends.stream.is_disconnected()
    ends.peer.close()
    assert ends.stream.is_disconnected()


def test_release_gives_the_descriptor_away_open(ends: Ends) -> None:
    """Once; then the stream is as closed."""
    fd = ends.stream.release()
    ends.peer.send(b"x")
    assert os.read(fd, 1) == b"x"
    assert ends.stream.release() == -1
    os.close(fd)


def test_a_stream_is_used_again_without_traces_of_its_last_descriptor(ends: Ends) -> None:
    """The deadline does not hold for the next one."""
    ends.stream.expire()
    ends.stream.close()
    other = Ends()
    ends.stream.open(other.stream.release())
    reader = waiting(ends.stream.read)
    other.peer.send(b"new")
    assert reader.get(timeout=5) == b"new"
    other.peer.close()
