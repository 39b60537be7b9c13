# SPDX-License-Identifier: GPL-2.0-or-later
"""A model of the pool: any order of requests, faults, time and ends, and what must always hold.

Hypothesis chooses the steps. The pool, its connections and `Lond.exchange` are the real ones, the
lond and the clock are simulated (sim_lond.py). A step may run only a few loop
iterations, so that the next one begins before the work of the last one is done.
"""

from __future__ import annotations

import os
from itertools import count, pairwise
from math import inf
from time import monotonic
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gevent
from gevent import Greenlet
from gevent.event import Event
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sim_lond import (
    ALL,
    CALLBACKS,
    MADE,
    NOTHING,
    ONE_ITERATION,
    Peer,
    SimPool,
    run_loop,
    without_switch_interval,
)
from sim_lond import settings as host_settings

from lonc_gevent.backend.pool_state import PoolState
from lonc_gevent.backend.transaction import OVERLOAD
from lonc_gevent.daemon.janitor import Janitor
from lonc_gevent.protocol.lines import CON_LOST

if TYPE_CHECKING:
    from collections.abc import Callable

    from lonc_gevent.backend.transaction import Transaction

LOOP_RUNS = st.sampled_from([ALL, ALL, ALL, NOTHING, CALLBACKS, ONE_ITERATION])
"""How long the loop runs after a step: not at all, or until nothing goes on by itself."""

which = st.integers(0, 1 << 16)
"""Which one of those that are there at that moment."""

SIZES = st.sampled_from([10, 10, 10, 100, 400_000])
"""Bytes of a request: the longest one does not fit into a socket's buffer."""

NUMBER = len(b"000000:")
"""Bytes that a request begins with, and that no other has."""


class UntitledJanitor(Janitor):
    """The janitor, but the process title is pytest's own."""

    def _show_title(self) -> None:
        pass


class Requester:
    """A web process's greenlet: one request, and all that came back."""

    def __init__(self, pool: SimPool, number: int, size: int) -> None:
        self.text = b"%06d:" % number + b"x" * (size - NUMBER)
        self.replies: list[bytes] = []
        self.killed = False
        self.is_gone = False
        self.greenlet: Greenlet[..., Any] = gevent.spawn(self._run, pool)

    def _run(self, pool: SimPool) -> None:
        reply = pool.ask(self.text + b"\n", lambda: self.is_gone)
        self.replies.append(bytes(reply))


class PoolModel(RuleBasedStateMachine):
    """The steps, and the promises."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = count()
        self.askers: dict[bytes, Requester] = {}
        self.settled = True
        self.ticked = False
        self.answered: set[bytes] = set()
        self.received_since: list[Transaction] = []

    @initialize(
        limit=st.integers(1, 4), warm=st.integers(0, 4), queued=st.sampled_from([4, 6, 1000])
    )
    def begin(self, limit: int, warm: int, queued: int) -> None:
        """Make a pool, with some idle connections."""
        log: Any = None
        self.pools: dict[str, Any] = {}
        replayer: Any = SimpleNamespace(next_scan=inf)
        self.janitor = UntitledJanitor(self.pools, replayer, log, tick=0.1, wake=Event())
        host = host_settings(max_connections=limit, max_queued=queued)
        self.pool = SimPool(host, schedule=self.janitor.schedule)
        self.pools["msul2"] = self.pool
        self.limits = self.pool.host.pool
        run_loop(ALL)
        if warm:
            self.ask(some=warm, size=10, iterations=ALL)
        for _ in range(warm):
            self.take_connection(index=0, iterations=ALL)
        self.answer(index=0, several=True, iterations=ALL)

    # -- helpers -----------------------------------------------------------------------------

    def run_loop(self, some: int) -> None:
        """Run so many loop iterations, and read the requests on all connections."""
        run_loop(some)
        self.receive_all()
        if some == ALL:
            # The read can have ended a long request, or the connection.
            run_loop(ALL)
            self.receive_all()
        self.settled = some == ALL
        self.ticked = False

    def receive_all(self) -> None:
        """Let every peer read: never a second request before the first one's reply."""
        by_text = {bytes(t.request[:-1]): t for t in self.pool.submitted}
        for peer in self.pool.peers:
            if not peer.open:
                continue
            before = peer.unanswered
            new = peer.receive()
            assert len(new) <= 1, "two transactions on one connection"
            assert not (new and before), "a request before the last one was answered"
            for text in new:
                assert text in by_text, "it arrives as it was sent"
                self.received_since.append(by_text[text])

    def peer(self, index: int, wanted: Callable[[Peer], object]) -> Peer | None:
        """Choose one of the peers that are as wanted."""
        found = [peer for peer in self.pool.peers if peer.open and wanted(peer)]
        return found[index % len(found)] if found else None

    def busy_peer(self, index: int) -> Peer | None:
        """Choose one of the peers that have a whole request and have begun no reply.

        If there is none, some clients ask first, and connections are made for them: else most
        runs would have few requests on connections, and few faults would find one.
        """

        def is_busy(peer: Peer) -> bool:
            return peer.unanswered is not None and not peer.unsent

        if self.peer(index, is_busy) is None:
            if not self.pool.connections:
                self.pool.gate.open()
            self.ask(some=3, size=10, iterations=ALL)
            self.take_connection(index=index, iterations=ALL)
        return self.peer(index, is_busy)

    # -- steps: clients ----------------------------------------------------------------------

    @rule(some=st.integers(1, 6), size=SIZES, iterations=LOOP_RUNS)
    def ask(self, some: int, size: int, iterations: int) -> None:
        """Let some clients send a request each."""
        for _ in range(some):
            asker = Requester(self.pool, next(self.numbers), size)
            self.askers[asker.text] = asker
        self.run_loop(iterations)

    @rule(index=which, iterations=LOOP_RUNS)
    def kill_client(self, index: int, iterations: int) -> None:
        """End a client's greenlet while it waits."""
        waiting = [a for a in self.askers.values() if not a.replies and not a.killed]
        if waiting:
            asker = waiting[index % len(waiting)]
            asker.killed = True
            asker.greenlet.kill(block=False)
        self.run_loop(iterations)

    # -- steps: lond -------------------------------------------------------------------------

    @rule(index=which, iterations=LOOP_RUNS)
    def take_connection(self, index: int, iterations: int) -> None:
        """Make a connection that is being made."""
        peer = self.peer(index, lambda p: not p.made)
        if peer is not None:
            peer.made = True
            peer.send(MADE)
        self.run_loop(iterations)

    @rule(index=which, iterations=LOOP_RUNS, several=st.booleans())
    def answer(self, index: int, iterations: int, several: bool) -> None:
        """Send a reply, or the rest of one, on one connection or on all."""
        if self.peer(index, lambda p: p.unanswered is not None) is None:
            self.busy_peer(index)
        for offset in range(4 if several else 1):
            peer = self.peer(index + offset, lambda p: p.unanswered is not None)
            if peer is not None and peer.unanswered is not None:
                self.answered.add(peer.unanswered)
                peer.send(peer.unsent or b"R" + peer.unanswered[:6] + b"\n")
                peer.unanswered, peer.unsent = None, b""
        self.run_loop(iterations)

    @rule(index=which, cut=st.integers(1, 7), iterations=LOOP_RUNS)
    def answer_in_part(self, index: int, cut: int, iterations: int) -> None:
        """Send the beginning of a reply."""
        peer = self.busy_peer(index)
        if peer is not None and peer.unanswered is not None:
            reply = b"R" + peer.unanswered[:6] + b"\n"
            peer.send(reply[:cut])
            peer.unsent = reply[cut:]
        self.run_loop(iterations)

    @rule(index=which, apart=st.booleans(), iterations=LOOP_RUNS)
    def answer_and_more(self, index: int, apart: bool, iterations: int) -> None:
        """Send bytes without a request after a reply."""
        peer = self.busy_peer(index)
        if peer is not None and peer.unanswered is not None:
            self.answered.add(peer.unanswered)
            reply = b"R" + peer.unanswered[:6] + b"\n"
            for data in (reply, b"X\n") if apart else (reply + b"X\n",):
                if peer.open:
                    peer.send(data)
            peer.unanswered = None
        self.run_loop(iterations)

    @rule(index=which, iterations=LOOP_RUNS)
    def speak_unasked(self, index: int, iterations: int) -> None:
        """Send bytes on an idle connection."""
        self.receive_all()
        peer = self.peer(index, lambda p: p.made and p.reading and not p.expects_more)
        if peer is not None:
            peer.send(b"X\n")
        self.run_loop(iterations)

    @rule(index=which, iterations=LOOP_RUNS)
    def close_peer(self, index: int, iterations: int) -> None:
        """Close a connection, idle or busy."""
        peer = self.peer(index, lambda _: True)
        if peer is not None:
            peer.close()
        self.run_loop(iterations)

    @rule(index=which, iterations=LOOP_RUNS)
    def close_peer_with_unread_request(self, index: int, iterations: int) -> None:
        """Close a connection whose request was sent and not read, which resets it."""
        peer = self.peer(index, lambda p: p.made and p.reading and not p.expects_more)
        if peer is not None:
            peer.reading = False
            self.ask(some=4, size=10, iterations=ALL)
            peer.close()
        self.run_loop(iterations)

    @rule(iterations=LOOP_RUNS)
    def restart_lond(self, iterations: int) -> None:
        """Close all connections."""
        for peer in self.pool.peers:
            if peer.open:
                peer.close()
        self.run_loop(iterations)

    @rule(index=which)
    def stop_reading(self, index: int) -> None:
        """Do not read any more on a connection, or read again."""
        peer = self.peer(index, lambda p: p.made)
        if peer is not None:
            peer.reading = not peer.reading
            self.settled = False

    # -- steps: time, people, and wake-ups for no reason ---------------------------------------

    @rule(seconds=st.sampled_from([10.0, 6_000.0, 10_001.0, 20_001.0, 30_001.0, 100_001.0]))
    def pass_time(self, seconds: float) -> None:
        """Let time pass, and run the maintenance that is scheduled or due."""
        self.run_loop(ALL)
        self.pool.pass_time(seconds)
        self.janitor._due = [(due - seconds, *more) for due, *more in self.janitor._due]  # type: ignore[misc]
        for pool in self.janitor._in_heap:
            self.janitor._in_heap[pool] -= seconds
        self.janitor._run_once(monotonic())
        self.run_loop(ALL)
        self.janitor._run_once(monotonic())
        self.run_loop(ALL)
        self.ticked = True

    @rule(index=which, clients=st.booleans(), iterations=LOOP_RUNS)
    def wake_for_no_reason(self, index: int, clients: bool, iterations: int) -> None:
        """Switch to a greenlet although nothing has happened."""
        loop = self.pool.hub.loop
        found: list[Any] = (
            [a.greenlet for a in self.askers.values() if not a.replies and not a.killed]
            if clients
            else [c._greenlet for c in self.pool.connections]
        )
        started = [greenlet for greenlet in found if greenlet and not greenlet.ready()]
        if started:
            loop.run_callback(started[index % len(started)].switch)
        self.run_loop(iterations)

    @rule(index=which, iterations=LOOP_RUNS)
    def disconnect(self, index: int, iterations: int) -> None:
        """Let a client disconnect whose request may still wait in the queue."""
        waiting = [a for a in self.askers.values() if not (a.replies or a.killed or a.is_gone)]
        if waiting:
            asker = waiting[index % len(waiting)]
            asker.is_gone = True
        self.run_loop(iterations)

    @rule(iterations=LOOP_RUNS)
    def reset_retries(self, iterations: int) -> None:
        """Open the retry gate, as an operator can."""
        self.pool.retry_now()
        self.run_loop(iterations)

    @rule(iterations=LOOP_RUNS)
    def close_connections(self, iterations: int) -> None:
        """Close the connections, as an operator can."""
        self.pool.close_connections()
        self.run_loop(iterations)

    @rule(iterations=LOOP_RUNS)
    def pause_or_resume(self, iterations: int) -> None:
        """Pause or resume the host, as an operator can."""
        (self.pool.resume if self.pool.state is PoolState.PAUSED else self.pool.pause)()
        self.run_loop(iterations)

    @precondition(lambda self: len(self.askers) > 12)
    @rule(iterations=LOOP_RUNS)
    def stop(self, iterations: int) -> None:
        """Stop the pool: transactions in progress go on."""
        self.pool.stop()
        self.run_loop(iterations)

    # -- what holds after each step, whether its work is done or not ---------------------------

    @invariant()
    def one_place_each(self) -> None:
        """Find each transaction in one place: it waits, or is on one connection, or has ended."""
        pool = self.pool
        held = [c.transaction for c in pool.connections if c.transaction is not None]
        places = [id(t) for t in [*held, *pool.waiting]]
        assert len(places) == len(set(places))
        assert all(t.reply is None for t in [*held, *pool.waiting])

    @invariant()
    def each_ends_once(self) -> None:
        """Find that what has a reply ended once, and what has none did not end."""
        for transaction in self.pool.submitted:
            assert self.pool.ends[id(transaction)] == (transaction.reply is not None)

    @invariant()
    def within_limits(self) -> None:
        """Keep to the limits of connections and of what waits."""
        pool = self.pool
        assert len(pool.connections) <= self.limits.max_connections
        # What was put back is over the limit by no more than there are connections.
        assert len(pool.queue) <= self.limits.max_queued + self.limits.max_connections

    @invariant()
    def counts_agree(self) -> None:
        """Count what is there."""
        pool = self.pool
        ended = [t for t in pool.submitted if t.reply is not None]
        stats = pool.stats
        assert stats.ok + stats.con_lost + stats.abandoned == len(ended)
        assert stats.con_lost + stats.abandoned == sum(t.reply is CON_LOST for t in ended)
        assert stats.abandoned <= sum(asker.is_gone for asker in self.askers.values())
        assert pool.stats.duration.count == pool.stats.ok
        assert pool.budget.used == sum(len(t.request) for t in pool.waiting)
        assert set(pool.idle) <= pool.connections
        assert len(set(pool.idle)) == len(pool.idle)
        assert pool.connecting is None or pool.connecting in pool.connections

    @invariant()
    def oldest_first(self) -> None:
        """Find the queue ordered by submission, requeued or not."""
        assert all(a.since < b.since for a, b in pairwise(self.pool.waiting))

    @invariant()
    def busy_or_empty(self) -> None:
        """Let nothing wait while a connection is idle."""
        assert not (self.pool.idle and self.pool.queue)

    @invariant()
    def right_replies(self) -> None:
        """Give a client the reply to its request, whole and once; or con_lost."""
        for asker in self.askers.values():
            assert len(asker.replies) <= 1
            for reply in asker.replies:
                right = b"R" + asker.text[:6] + b"\n"
                assert reply in (right, CON_LOST)
                assert reply == CON_LOST or asker.text in self.answered

    @invariant()
    def sent_once(self) -> None:
        """Send no request, or a part of one, twice, on the same or on different connections."""
        begun = [text[:NUMBER] for peer in self.pool.peers for text in peer.begun]
        assert len(begun) == len(set(begun))

    @invariant()
    def scheduled_while_anything_waits(self) -> None:
        """Find the pool scheduled if something has a deadline."""
        pool = self.pool
        if pool.queue or pool.busy or pool.connecting:
            assert pool._is_scheduled
            assert pool in self.janitor._active

    # -- what holds once the work is done ------------------------------------------------------

    @invariant()
    def all_is_as_it_seems(self) -> None:
        """Have states, connections and clients agree, once nothing goes on by itself."""
        if not self.settled:
            return
        pool = self.pool
        assert pool.busy + len(pool.idle) + (pool.connecting is not None) == len(pool.connections)
        assert all(c.state == "idle" for c in pool.idle)
        open_peers = {peer.number for peer in pool.peers if peer.open}
        live = {c.number for c in pool.connections}
        assert live <= open_peers
        assert {p.number for p in pool.peers if p.open and p.reading} <= live
        for asker in self.askers.values():
            assert asker.killed or bool(asker.replies) == asker.greenlet.ready()
        open_ones = [t for t in pool.submitted if t.reply is None]
        assert len(open_ones) == pool.busy + len(pool.queue)
        if pool.queue:
            assert pool.connections or pool.state is PoolState.PAUSED, (
                "a queued request has a connection to come"
            )
        made = len(pool.connections) - (pool.connecting is not None)
        if pool.state in (PoolState.STOPPING, PoolState.PAUSED):
            return
        if made:
            assert pool.state is PoolState.UP
        else:
            assert pool.state is not PoolState.UP

    @invariant()
    def nothing_overtaken(self) -> None:
        """Send no request while an older one waits, except a requeued one and under overload."""
        if self.received_since and self.settled:
            newest = max(t.since for t in self.received_since)
            requeue = self.pool.returned
            overload = self.pool.queue.oldest_since < monotonic() - OVERLOAD
            assert overload or all(
                t.since > newest for t in self.pool.waiting if id(t) not in requeue
            )
            self.received_since.clear()

    @invariant()
    def in_time(self) -> None:
        """Leave nothing overdue after the maintenance; make connections if needed."""
        if not self.ticked:
            return
        now = monotonic()
        pool = self.pool
        for transaction in pool.waiting:
            assert now - transaction.since < self.limits.queue_timeout
        for transaction in pool.submitted:
            longest = self.limits.queue_timeout + self.limits.reply_timeout
            assert transaction.reply is not None or now - transaction.since < longest
        assert all(c.stream.deadline > now for c in pool.connections)
        assert all(now - c.idle_since < self.limits.idle_timeout for c in pool.idle)
        if pool.queue and pool.gate.is_open(now) and pool.state is not PoolState.PAUSED:
            full = len(pool.connections) >= self.limits.max_connections
            assert pool.connecting is not None or full

    # -- the end -------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Answer each request in the end, after any steps, and leave nothing."""
        if hasattr(self, "pool"):
            try:
                self.end()
            finally:
                self.pool.kill()
                self.run_loop(ALL)
                self.pool.dispose()

    def end(self) -> None:
        """Let half of the runs end by time alone, then stop."""
        pool = self.pool
        if len(self.askers) % 2:
            for _ in range(4):
                self.pass_time(20_001.0)
            assert not pool.queue
            assert not pool.busy
        pool.stop()
        self.run_loop(ALL)
        assert not pool.queue
        pool.kill()
        self.run_loop(ALL)
        assert not pool.connections
        assert not pool.idle
        assert all(asker.greenlet.ready() for asker in self.askers.values())
        assert all(asker.killed or asker.replies for asker in self.askers.values())
        self.each_ends_once()
        self.counts_agree()
        for number in range(1, pool._next_number + 1):
            ends = pool.events.count("connection_closed", connection=number)
            ends += pool.events.count("connection_lost", connection=number)
            ends += pool.events.count("connection_failed", connection=number)
            assert ends == 1, f"the end of connection {number} is logged {ends} times"


def test_the_pool_keeps_its_promises() -> None:
    """No order of requests, faults, time, wake-ups and ends breaks one of them."""
    with without_switch_interval():
        run_state_machine_as_test(
            PoolModel,
            settings=settings(
                max_examples=int(os.environ.get("LONC_MODEL_EXAMPLES", "150")),
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
