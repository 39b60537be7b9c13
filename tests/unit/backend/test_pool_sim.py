# SPDX-License-Identifier: GPL-2.0-or-later
"""The pool with a simulated lond, one step at a time: its state, counters and log events."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any
from unittest import mock

import gevent
import pytest
from sim_lond import ALL, MADE, SimConnection, SimPool, run_loop, settings, without_switch_interval

from lonc_gevent.backend.pool_state import PoolState
from lonc_gevent.backend.transaction import Transaction
from lonc_gevent.errors import ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lonc_gevent.backend.lond import Lond
    from lonc_gevent.backend.pool import Pool


class Bench:
    """A pool, its clients, and the calls of `schedule` and `on_up`."""

    def __init__(self, *, sample: int = 0, **pool: Any) -> None:
        self.watched: list[Pool] = []
        self.came_up: list[Pool] = []
        self.pool = SimPool(
            settings(**pool), schedule=self.watched.append, on_up=self.came_up.append, sample=sample
        )
        self.replies: list[bytes] = []

    def ask(self, *requests: bytes) -> None:
        """Let a client of its own send each of these requests."""
        for request in requests:
            gevent.spawn(self._ask, request)
        run_loop(ALL)

    def _ask(self, request: bytes) -> None:
        self.replies.append(bytes(self.pool.ask(request)))

    def take(self, number: int = -1) -> None:
        """Make the connection that is being made."""
        peer = self.pool.peers[number]
        peer.made = True
        peer.send(MADE)
        run_loop(ALL)

    def answer(self, number: int = -1, reply: bytes = b"yes\n") -> list[bytes]:
        """Answer the request on a connection; return all requests received on it."""
        peer = self.pool.peers[number]
        peer.receive()
        peer.send(reply)
        peer.unanswered = None
        run_loop(ALL)
        return peer.received

    def refuse(self, number: int = -1) -> None:
        """End a connection, made or not."""
        self.pool.peers[number].close()
        run_loop(ALL)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of each event of that name."""
        return [fields for name, fields in self.pool.events.events if name == event]


@pytest.fixture(autouse=True)
def slow_loop() -> Iterator[None]:
    """Keep the speed of this machine out of the results."""
    with without_switch_interval():
        yield


def end(bench: Bench) -> None:
    """Leave nothing behind."""
    bench.pool.stop()
    bench.pool.kill()
    run_loop(ALL)
    bench.pool.dispose()


def test_a_request_from_beginning_to_end() -> None:
    """It waits for the connection that is made for it, is sent, and gets its reply."""
    bench = Bench()
    pool = bench.pool
    assert (pool.state, pool.next_due, bench.watched) == (PoolState.IDLE, None, [])
    bench.ask(b"ping\n")
    assert repr(pool) == "<Pool msul2 connecting queue=1 idle=0 busy=0 connecting=1>"
    assert bench.watched == [pool]

    bench.take()
    assert repr(pool) == "<Pool msul2 up queue=0 idle=0 busy=1 connecting=0>"
    assert bench.answer() == [b"ping"]

    assert bench.replies == [b"yes\n"]
    assert repr(pool) == "<Pool msul2 up queue=0 idle=1 busy=0 connecting=0>"
    assert [c.number for c in pool.connections] == [1]
    assert bench.logged("connection_made")[0]["connection"] == 1
    assert not bench.logged("host_up"), "it was never down"
    assert pool.stats.attempts == {"ok": 1}
    assert pool.stats.queue_wait.count == 1
    assert pool.next_due == pool.idle[0].idle_since + pool.host.pool.idle_timeout
    end(bench)
    assert bench.logged("connection_closed") == [{"connection": 1}]


def test_an_idle_connection_takes_a_request_at_once() -> None:
    """No wait, and no connection more; the wait is counted as none."""
    bench = Bench()
    bench.ask(b"one\n")
    bench.take()
    bench.answer()
    bench.ask(b"two\n")

    assert bench.answer() == [b"one", b"two"]
    assert len(bench.pool.peers) == 1
    assert bench.pool.stats.queue_wait.buckets[0] >= 1
    assert bench.pool.stats.queue_wait.count == 2
    end(bench)


def test_connections_are_made_one_at_a_time_up_to_the_limit() -> None:
    """While more than the new one can take wait, one more is made; never over the limit."""
    bench = Bench(max_connections=2)
    bench.ask(*(b"%d\n" % i for i in range(4)))
    assert len(bench.pool.peers) == 1
    bench.take()
    assert len(bench.pool.peers) == 2
    bench.take()
    assert len(bench.pool.peers) == 2
    assert (bench.pool.busy, len(bench.pool.queue)) == (2, 2)
    end(bench)


def test_two_that_wait_are_one_connection_more() -> None:
    """Exactly one waits behind the one that the new connection takes: one more is made."""
    bench = Bench(max_connections=9)
    bench.ask(b"1\n", b"2\n")
    bench.take()
    assert len(bench.pool.peers) == 2
    bench.take()
    bench.ask(b"3\n")
    bench.take()
    assert len(bench.pool.peers) == 3
    end(bench)


def test_host_that_refuses_is_down_until_an_attempt_succeeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`host_down` is logged once; requests get con_lost at once until the gate opens."""
    monkeypatch.setattr("lonc_gevent.backend.pool_connections.random", lambda: 0.123456789)
    bench = Bench()
    pool = bench.pool
    assert pool.last_error == ""
    bench.ask(b"1\n")
    bench.refuse()

    assert bench.replies == [b"con_lost\n"]
    failed = bench.logged("connection_failed")[0]
    assert (failed["connection"], failed["error"]) == (1, "unreachable")
    assert failed["detail"] == "the peer did not send MADE"
    assert 0.0 <= failed["retry_in_s"] < pool.host.pool.retry_backoff_min
    assert isinstance(failed["retry_in_s"], float)
    assert failed["retry_in_s"] == round(failed["retry_in_s"], 3)
    assert len(bench.logged("host_down")) == 1
    down = bench.logged("host_down")[0]
    assert (down["error"], down["detail"]) == ("unreachable", "the peer did not send MADE")
    assert pool.last_error == "unreachable: the peer did not send MADE"
    assert (pool.state, pool.is_down, pool.stats.con_lost) == (PoolState.DOWN, True, 1)
    assert pool.stats.attempts == {"unreachable": 1}

    pool.gate.opens_at = monotonic() + 100.0
    bench.ask(b"2\n")
    assert bench.replies == [b"con_lost\n"] * 2
    assert len(pool.peers) == 1
    pool.gate.open()
    bench.ask(b"3\n")
    assert pool.state is PoolState.DOWN, "until it is made"
    bench.refuse()
    assert len(bench.logged("host_down")) == 1, "it was down before"

    pool.gate.open()
    bench.ask(b"4\n")
    bench.take()
    assert bench.logged("host_up") == [{"down_s": 0.0}]
    assert (pool.state, pool.is_down, pool.last_error) == (PoolState.UP, False, "")
    assert pool.gate.failures == 0
    bench.answer()
    assert bench.replies[-1] == b"yes\n"
    end(bench)


def test_a_failed_attempt_beside_a_connection_is_not_down() -> None:
    """While one connection stands, what waits goes on waiting for it."""
    bench = Bench(max_connections=2)
    bench.ask(b"1\n", b"2\n", b"3\n")
    bench.take()
    bench.refuse(1)

    assert bench.replies == []
    assert not bench.logged("host_down")
    assert bench.pool.state is PoolState.UP
    bench.answer(0)
    bench.answer(0)
    assert bench.answer(0) == [b"1", b"2", b"3"]
    assert bench.replies == [b"yes\n"] * 3
    end(bench)


def test_lost_reply_is_logged_without_the_request() -> None:
    """Only its verb and size are; a new connection is made for the request that waits."""
    bench = Bench(max_connections=1)
    bench.ask(b"auth:x:y\n", b"next\n")
    bench.take()
    bench.refuse()

    assert bench.replies == [b"con_lost\n"]
    (lost,) = bench.logged("reply_lost")
    assert 0.0 <= lost.pop("duration_ms") < 10_000.0
    assert lost.pop("detail") == "Connection reset by peer"
    assert lost == {
        "connection": 1,
        "verb": "auth",
        "request_bytes": 9,
        "error": "connection_lost",
    }
    (ended,) = bench.logged("connection_lost")
    assert (ended["connection"], ended["error"]) == (1, "connection_lost")
    assert ended["detail"]
    assert len(bench.pool.peers) == 2
    bench.take()
    assert bench.answer() == [b"next"]
    end(bench)


def test_request_that_waits_too_long_gets_con_lost() -> None:
    """At queue_timeout, once; `requests_refused` is throttled and has their number."""
    bench = Bench(max_connections=1)
    pool = bench.pool
    bench.ask(b"1\n", b"2\n", b"3\n")
    bench.take()
    pool.pass_time(pool.host.pool.queue_timeout - 5.0)
    assert not pool.run_maintenance(monotonic()), "one is busy, two wait"
    assert bench.replies == []

    pool.pass_time(5.0)
    pool.run_maintenance(monotonic())
    run_loop(ALL)

    assert bench.replies == [b"con_lost\n"] * 2
    assert bench.logged("requests_refused") == [{"error": "queue_timeout", "count": 1}]
    pool.pass_time(11.0)
    bench.ask(b"4\n")
    pool.pass_time(pool.host.pool.queue_timeout)
    pool.run_maintenance(monotonic())
    assert bench.logged("requests_refused")[1] == {"error": "queue_timeout", "count": 2}
    end(bench)


def test_a_request_that_is_too_old_is_not_sent() -> None:
    """A connection that becomes free takes the next request that is not too old."""
    bench = Bench(max_connections=1)
    pool = bench.pool
    bench.ask(b"1\n", b"old\n")
    bench.take()
    pool.pass_time(pool.host.pool.queue_timeout)
    bench.ask(b"new\n")
    bench.answer()

    assert bench.answer() == [b"1", b"new"]
    assert sorted(bench.replies) == [b"con_lost\n", b"yes\n", b"yes\n"]
    assert bench.logged("requests_refused") == [{"error": "queue_timeout", "count": 1}]
    assert pool.stats.queue_wait.count == 2, "waits of what was sent"
    end(bench)


def test_request_over_max_queued_gets_con_lost_at_once() -> None:
    """And `requests_refused` is logged."""
    bench = Bench(max_queued=1)
    bench.ask(b"1\n", b"2\n")

    assert bench.replies == [b"con_lost\n"]
    assert bench.logged("requests_refused") == [{"error": "queue_full", "count": 1}]
    end(bench)


def test_an_idle_connection_ages() -> None:
    """At idle_timeout it ends, the one that was used least lately first."""
    bench = Bench(max_connections=2)
    pool = bench.pool
    bench.ask(b"1\n", b"2\n")
    bench.take()
    bench.take()
    bench.answer(0)
    bench.answer(1)
    assert [c.number for c in pool.idle] == [1, 2]
    pool.idle[0].idle_since -= pool.host.pool.idle_timeout

    assert pool.next_due is not None
    assert pool.next_due <= monotonic()
    pool.run_maintenance(monotonic())
    run_loop(ALL)

    assert [c.number for c in pool.idle] == [2]
    assert pool.run_maintenance(monotonic()), "all is quiet"
    assert bench.logged("connection_closed") == [{"connection": 1}]
    end(bench)


def test_an_idle_connection_has_no_deadline() -> None:
    """reply_timeout ends no connection that has no request."""
    bench = Bench()
    pool = bench.pool
    bench.ask(b"1\n")
    bench.take()
    bench.answer()
    pool.pass_time(pool.host.pool.reply_timeout + 1.0)
    pool.run_maintenance(monotonic())
    run_loop(ALL)

    assert [c.number for c in pool.idle] == [1]
    end(bench)


def test_what_was_not_sent_goes_to_another_connection() -> None:
    """A connection that lond has closed gives its request back; an idle one takes it at once."""
    bench = Bench(max_connections=2)
    bench.ask(b"1\n", b"2\n")
    bench.take()
    bench.take()
    bench.answer(0)
    bench.answer(1)
    bench.pool.peers[1].close()
    gevent.spawn(lambda: bench.replies.append(bytes(bench.pool.ask(b"3\n"))))
    run_loop(ALL)

    assert bench.answer(0) == [b"1", b"3"]
    assert bench.replies == [b"yes\n"] * 3
    (ended,) = bench.logged("connection_lost")
    assert (ended["connection"], ended["error"]) == (2, "stale")
    end(bench)


def test_a_stop() -> None:
    """What waits gets con_lost, idle ones end, what is under way goes on; nothing new is taken."""
    bench = Bench(max_connections=2)
    pool = bench.pool
    bench.ask(b"1\n", b"2\n", b"3\n")
    bench.take()
    assert (pool.busy, len(pool.queue)) == (1, 2)
    assert len(pool.peers) == 2, "one is being made"

    pool.stop()
    run_loop(ALL)
    assert pool.state is PoolState.STOPPING
    assert bench.replies == [b"con_lost\n"] * 2
    assert pool.connecting is None
    assert len(pool.connections) == 1
    bench.ask(b"4\n")
    assert bench.replies == [b"con_lost\n"] * 3
    bench.answer(0)
    assert bench.replies[-1] == b"yes\n"
    assert not pool.connections
    assert len(pool.peers) == 2
    end(bench)


def test_a_kill() -> None:
    """What is under way gets con_lost; every connection is gone."""
    bench = Bench()
    bench.ask(b"1\n")
    bench.take()
    bench.pool.kill()
    run_loop(ALL)

    assert bench.replies == [b"con_lost\n"]
    assert not bench.pool.connections
    end(bench)


def test_closing_connections() -> None:
    """Idle ones end at once, busy ones after their reply; new requests make new ones."""
    bench = Bench(max_connections=2)
    bench.ask(b"1\n", b"2\n")
    bench.take()
    bench.take()
    bench.answer(0)
    bench.pool.close_connections()
    run_loop(ALL)
    assert [c.number for c in bench.pool.connections] == [2]
    bench.ask(b"3\n")
    bench.take(2)
    bench.answer(1)
    assert [c.number for c in bench.pool.connections] == [3]
    assert bench.answer(2) == [b"3"]
    assert bench.replies == [b"yes\n"] * 3
    end(bench)


def test_every_second_transaction_is_logged() -> None:
    """With a sample of 2: sizes and times of each second whole reply, no text."""
    bench = Bench(sample=2)
    bench.ask(b"a:1\n")
    bench.take()
    bench.answer()
    bench.ask(b"a:22\n")
    bench.answer(reply=b"three\n")
    bench.ask(b"a:333\n")
    bench.answer()

    (fields,) = bench.logged("transaction")
    duration = fields.pop("duration_ms")
    assert 0.0 < duration < 10_000.0
    assert duration == round(duration, 3)
    assert fields == {"verb": "a", "request_bytes": 5, "reply_bytes": 6}
    assert bench.pool.stats.duration.count == 3
    assert 0.0 < bench.pool.stats.duration.sum < 30.0
    assert bench.pool.stats.queue_wait.count == 3
    assert bench.pool.stats.queue_wait.buckets[0] >= 2, "an idle connection takes it at once"
    end(bench)


def test_numbers_of_connections_go_up() -> None:
    """A connection's number is never used again: log lines can be put together by it."""
    bench = Bench(max_connections=1)
    for number in (1, 2, 3):
        bench.ask(b"x\n")
        bench.take()
        assert [c.number for c in bench.pool.connections] == [number]
        bench.refuse()
    end(bench)


def test_counts_add_up() -> None:
    """Each of several of a kind is counted; without `log.sample` none is logged."""
    bench = Bench(max_connections=1)
    pool = bench.pool
    for _ in range(2):
        bench.ask(b"1\n")
        bench.take()
        bench.answer()
        bench.ask(b"2\n")
        bench.refuse()
    for _ in range(2):
        pool.gate.open()
        bench.ask(b"3\n")
        bench.refuse()

    assert (pool.stats.ok, pool.stats.con_lost) == (2, 4)
    assert pool.stats.attempts == {"ok": 2, "unreachable": 2}
    assert pool.stats.duration.count == 2
    assert not bench.logged("transaction")
    assert pool.events.bound == {"host": "msul2"}
    end(bench)


def test_durations_are_logged_in_milliseconds() -> None:
    """`duration_ms` counts from the submission of the request, to the microsecond."""
    bench = Bench(sample=1, max_connections=1)
    began = monotonic()
    for reply in (b"yes\n", b""):
        bench.ask(b"1\n")
        if len(bench.pool.peers) == 1 and not bench.pool.peers[0].made:
            bench.take()
        bench.pool.pass_time(10.0)
        if reply:
            bench.answer(reply=reply)
        else:
            bench.refuse()

    really_ms = (monotonic() - began) * 1000
    for event in ("transaction", "reply_lost"):
        (fields,) = bench.logged(event)
        assert 10_000.0 < fields["duration_ms"] <= 10_000.0 + really_ms
        assert isinstance(fields["duration_ms"], float)
        assert fields["duration_ms"] == round(fields["duration_ms"], 3)
    end(bench)


def test_a_connection_that_ends_at_birth() -> None:
    """A lond that shakes hands and closes is down; its request is not tried without end."""
    bench = Bench()
    bench.ask(b"1\n")
    peer = bench.pool.peers[0]
    peer.made = True
    peer.send(MADE)
    peer.close()
    run_loop(ALL)

    assert bench.replies == [b"con_lost\n"]
    (failed,) = bench.logged("connection_failed")
    assert (failed["connection"], failed["error"]) == (1, "stale")
    assert failed["detail"] == "closed by lond while idle"
    assert bench.pool.last_error == "stale: closed by lond while idle"
    assert bench.pool.is_down
    assert len(bench.pool.peers) == 1
    end(bench)


def test_a_connection_that_served_or_rested_is_no_attempt() -> None:
    """One that goes stale later is dialled again at once: the gate stays open."""
    bench = Bench(max_connections=1)
    bench.ask(b"1\n")
    bench.take()
    bench.answer()
    bench.refuse()
    assert bench.logged("connection_lost")[0]["error"] == "stale"
    bench.ask(b"2\n")

    assert len(bench.pool.peers) == 2
    bench.take()
    bench.answer()
    assert bench.replies == [b"yes\n"] * 2
    assert not bench.logged("connection_failed")
    end(bench)


@pytest.mark.parametrize(
    ("reply", "later", "detail"),
    [
        (b"yes\nmore\n", b"", "bytes after the end of a reply"),
        (b"yes\n", b"more\n", "bytes without a request"),
    ],
)
def test_bytes_without_a_request_end_the_connection(
    reply: bytes, later: bytes, detail: str
) -> None:
    """Busy or idle; no client gets them."""
    bench = Bench(max_connections=1)
    bench.ask(b"1\n")
    bench.take()
    bench.answer(reply=reply)
    if later:
        bench.pool.peers[0].send(later)
        run_loop(ALL)

    (lost,) = bench.logged("connection_lost")
    assert lost == {"connection": 1, "error": "unsolicited_bytes", "detail": detail}
    assert (bench.replies, bench.pool.idle) == ([b"yes\n"], [])
    assert not bench.pool.connections
    end(bench)


def test_request_is_not_written_while_input_is_pending() -> None:
    """A line that arrives at the moment of the request is no reply to it."""
    bench = Bench()
    bench.ask(b"1\n")
    bench.take()
    bench.answer()
    bench.pool.peers[0].send(b"unasked\n")
    bench.ask(b"2\n")
    bench.take()

    assert bench.answer(reply=b"second\n") == [b"2"]
    assert bench.replies == [b"yes\n", b"second\n"]
    assert bench.logged("connection_lost")[0]["error"] == "unsolicited_bytes"
    end(bench)


def test_schedule_is_called_when_something_begins() -> None:
    """Once, with the pool, also for a connection that no request asked for; and it is not quiet."""
    bench = Bench(max_connections=2)
    pool = bench.pool
    pool.open_connection(monotonic())
    assert bench.watched == [pool]
    assert pool._is_scheduled is True
    run_loop(ALL)
    assert pool.run_maintenance(monotonic()) is False, "one is being made"
    bench.take()
    assert pool.run_maintenance(monotonic()) is True
    bench.ask(b"1\n")
    assert bench.watched == [pool, pool]
    assert pool.run_maintenance(monotonic()) is False, "one is busy"
    end(bench)


def test_what_waits_has_a_connection_made_when_the_gate_opens() -> None:
    """`run_maintenance` begins the attempt, without a new request."""
    bench = Bench(max_connections=2)
    pool = bench.pool
    bench.ask(b"1\n", b"2\n")
    bench.take()
    bench.refuse(1)
    pool.gate.opens_at = monotonic() + 100.0
    pool.run_maintenance(monotonic())
    run_loop(ALL)
    assert len(pool.peers) == 2
    pool.gate.opens_at = monotonic() - 1.0
    pool.run_maintenance(monotonic())
    run_loop(ALL)

    assert len(pool.peers) == 3
    end(bench)


def test_connection_stopped_before_it_ran_is_closed() -> None:
    """At once, and `connection_closed` is logged once."""
    bench = Bench()
    bench.pool.open_connection(monotonic())
    bench.pool.stop()
    assert not bench.pool.connections
    assert bench.pool.connecting is None
    run_loop(ALL)

    assert not bench.pool.peers
    assert bench.logged("connection_closed") == [{"connection": 1}]
    end(bench)


def test_killed_request_has_an_error() -> None:
    """So its owner can see that the request may have run."""
    bench = Bench()
    bench.ask(b"1\n")
    found = bench.pool.submitted
    bench.take()
    bench.pool.kill()
    assert found[0].reply is None, "a kill does not wait"
    run_loop(ALL)

    assert str(found[0].error) == "connection ended by lonc"
    assert found[0].waiter is None
    assert not bench.logged("reply_lost")
    end(bench)


def test_request_that_was_not_sent_has_no_error() -> None:
    """So its owner can distinguish it from one that may have run."""
    bench = Bench()
    bench.ask(b"1\n")
    found = bench.pool.submitted
    bench.refuse()
    assert (found[0].reply, found[0].error) == (b"con_lost\n", None)

    bench.pool.gate.open()
    bench.ask(b"2\n")
    bench.take()
    bench.refuse()
    assert isinstance(found[1].error, ConnectionLostError)
    end(bench)


def test_on_up_is_called_when_a_host_is_back() -> None:
    """`on_up` is called with the pool, and only after the host was down."""
    bench = Bench(max_connections=1)
    came_up = bench.came_up
    bench.ask(b"1\n")
    bench.take()
    bench.refuse()
    assert came_up == []
    bench.ask(b"2\n")
    bench.refuse()
    bench.pool.gate.open()
    bench.ask(b"3\n")
    bench.take()

    assert came_up == [bench.pool]
    end(bench)


def test_paused_host_keeps_requests_and_is_not_dialled() -> None:
    """With the retry gate open or shut; `resume` sends the requests."""
    bench = Bench(max_connections=1)
    pool = bench.pool
    bench.ask(b"1\n")
    bench.take()
    pool.pause()
    bench.answer()
    run_loop(ALL)
    assert not pool.connections
    pool.gate.opens_at = monotonic() + 100.0
    bench.ask(b"2\n")
    pool.run_maintenance(monotonic())
    pool.open_connection(monotonic())
    run_loop(ALL)
    assert (bench.replies, len(pool.queue), len(pool.peers)) == ([b"yes\n"], 1, 1)
    pool.gate.open()
    pool.run_maintenance(monotonic())
    run_loop(ALL)
    assert len(pool.peers) == 1

    pool.resume()
    run_loop(ALL)
    bench.take()
    assert bench.answer() == [b"2"]
    assert bench.replies == [b"yes\n"] * 2
    end(bench)


TICK = 0.001
"""Seconds."""


def test_a_limit_that_is_reached_to_the_tick() -> None:
    """What has waited, worked or rested for just as long as it may has reached its limit."""
    bench = Bench(max_connections=1)
    pool = bench.pool
    bench.ask(b"1\n", b"2\n")
    bench.take()
    (busy,) = pool.connections
    limits = pool.host.pool
    for early in (TICK, 0.0):
        assert bench.replies == []
        pool.run_maintenance(pool.queue.oldest_since + limits.queue_timeout - early)
        run_loop(ALL)
    assert bench.replies == [b"con_lost\n"], "the one that waited"

    for early in (TICK, 0.0):
        assert bench.replies == [b"con_lost\n"]
        pool.run_maintenance(busy._started + limits.reply_timeout - early)
        run_loop(ALL)
    assert bench.replies == [b"con_lost\n"] * 2
    assert bench.logged("reply_lost")[0]["error"] == "reply_timeout"

    bench.ask(b"3\n")
    bench.take()
    bench.answer()
    (idle,) = pool.connections
    assert pool.next_due == idle.idle_since + limits.idle_timeout
    for early in (TICK, 0.0):
        assert pool.connections
        pool.run_maintenance(idle.idle_since + limits.idle_timeout - early)
        run_loop(ALL)
    assert not pool.connections
    end(bench)


def test_reply_that_drips_does_not_put_off_its_deadline() -> None:
    """reply_timeout is for the whole reply, not for each part of it."""
    bench = Bench()
    bench.ask(b"1\n")
    bench.take()
    (connection,) = bench.pool.connections
    deadline = connection._started + bench.pool.host.pool.reply_timeout
    for _ in range(3):
        bench.answer(reply=b"x")
        assert connection.stream.deadline == deadline

    bench.pool.run_maintenance(deadline)
    run_loop(ALL)

    assert bench.replies == [b"con_lost\n"]
    end(bench)


def test_one_that_has_waited_to_the_tick_is_not_sent() -> None:
    """A connection that takes a request just then drops it."""
    bench = Bench()
    waited = bench.pool.host.pool.queue_timeout
    transaction = Transaction(b"1\n", gevent.getcurrent(), 0.0)
    transaction.waiter = None
    bench.pool.submitted.append(transaction)
    bench.pool.ends[id(transaction)] = 0
    assert bench.pool.queue.put(transaction, 1)

    assert bench.pool.take(waited) is None
    assert transaction.reply == b"con_lost\n"
    end(bench)


def test_session_that_is_not_encrypted_is_logged() -> None:
    """Each one, with the connection and why."""
    bench = Bench(max_connections=1)
    bench.pool.fell_back = "tls_failed: no certificate"
    for number in (1, 2):
        bench.ask(b"1\n")
        bench.take()
        bench.refuse()
        assert len(bench.logged("session_not_encrypted")) == number
    assert bench.logged("session_not_encrypted")[1] == {
        "connection": 2,
        "detail": "tls_failed: no certificate",
    }
    end(bench)


def test_a_bug_while_connecting_leaves_no_connection_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next request has another one made."""

    class Broken(SimConnection):
        def _connect(self) -> Lond:
            raise ZeroDivisionError

    bench = Bench()
    pool = bench.pool
    pool.connection_class = Broken
    monkeypatch.setattr(pool.hub, "print_exception", lambda *_: None)
    pool.open_connection(monotonic())
    run_loop(ALL)
    assert (pool.connections, pool.connecting) == (set(), None)
    pool.connection_class = SimConnection
    bench.ask(b"1\n")
    bench.take()
    bench.answer()
    assert bench.replies == [b"yes\n"]
    end(bench)


def test_connection_that_ended_while_idle_gets_no_request() -> None:
    """Ended by a deadline or by a bug."""
    bench = Bench()
    bench.ask(b"1\n")
    bench.take()
    bench.answer()
    (idle,) = bench.pool.connections
    idle._greenlet.kill(RuntimeError, block=False)
    with mock.patch.object(bench.pool.hub, "handle_error"):
        run_loop(ALL)
    assert not bench.pool.idle

    bench.ask(b"2\n")
    bench.take()
    bench.answer()
    assert bench.replies == [b"yes\n"] * 2
    end(bench)


def test_aborted_attempt_changes_nothing() -> None:
    """Connected or refused just before its end, it takes no request and does not shut the gate."""
    for outcome in (MADE, b"no\n"):
        bench = Bench()
        bench.ask(b"1\n")
        pool = bench.pool
        old = pool.connecting
        assert old
        pool.ended(old)  # as `abort` does, before the greenlet is killed
        pool.open_connection(monotonic())
        new = pool.connecting
        assert new not in (None, old)
        bench.pool.peers[0].send(outcome)
        run_loop(ALL)

        assert pool.connecting is new
        assert pool.gate.failures == 0
        assert pool.peers[0].received == []
        bench.take()
        bench.answer()
        assert bench.replies == [b"yes\n"]
        end(bench)


def test_requeued_request_has_its_whole_reply_timeout() -> None:
    """A request that waited long before it was requeued does not time out at once."""
    bench = Bench(max_connections=2)
    bench.ask(b"1\n")
    bench.take()
    bench.answer()
    transaction = Transaction(b"old\n", gevent.getcurrent(), monotonic() - 1000)
    transaction.waiter = None
    (idle,) = bench.pool.connections
    bench.pool.requeue(transaction)
    run_loop(ALL)

    assert idle.stream.deadline > monotonic()
    bench.answer()
    end(bench)
