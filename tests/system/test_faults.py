# SPDX-License-Identifier: GPL-2.0-or-later
"""Each fault of the network and of lond, under traffic: nothing lost, mixed up or stuck.

In each, the fault comes and goes while clients ask, and all is well again within a bound.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from faultproxy import FaultProxy
from harness import HANDSHAKE_FAULTS
from traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Lond, Network

BACKOFF = 0.5
REPLY_TIMEOUT = 1.5
BOUND = BACKOFF + 1.0
"""Seconds within which all must be well again: one backoff step and a second."""


class Scene(NamedTuple):
    """A daemon, a proxy, a lond, and traffic."""

    net: Network
    proxy: FaultProxy
    lond: Lond
    traffic: Traffic

    def logged(self, since: int) -> Counter[str]:
        """Count the warnings and lost connections since that many events ago."""
        counts: Counter[str] = Counter()
        for event in self.net.events[since:]:
            if event["level"] != "info" or event["event"] in ("connection_lost", "host_up"):
                error = f" {event['error']}" if "error" in event else ""
                counts[event["event"] + error] += 1
        return counts


@contextlib.contextmanager
def scene(net: Network, *options: str, **pool: Any) -> Iterator[Scene]:
    """Set the scene: all is well, and clients ask."""
    net.pool |= {
        "connect_timeout": 1.0,
        "handshake_timeout": 1.0,
        "reply_timeout": REPLY_TIMEOUT,
        "retry_backoff_min": 0.1,
        "retry_backoff_max": BACKOFF,
        **pool,
    }
    lond = net.add("msul2", "--delay-ms", "0-3", *options)
    with FaultProxy(lond.port) as proxy:
        net.hosts["msul2"]["port"] = proxy.port
        net.start()
        with Traffic(net.sockets / "msul2") as traffic:
            traffic.wait_for(10, "ok")
            yield Scene(net, proxy, lond, traffic)
        traffic.check(lond.received)
        assert net.daemon
        net.daemon.end()


@pytest.mark.parametrize(
    "faults", [{"latency": 0.03, "jitter": 0.02}, {"bandwidth": 20_000.0}, {"slices": 1}], ids=str
)
def test_a_slow_network(net: Network, faults: dict[str, Any]) -> None:
    """However slowly and in whatever pieces bytes arrive, every request gets its reply."""
    with scene(net, reply_timeout=10.0) as at:
        for key, value in faults.items():
            setattr(at.proxy.faults, key, value)
        assert net.ask("msul2", b"close_connection_exit") == b"ok", "handshakes under it, too"
        at.traffic.wait_for(30)
        at.proxy.heal()
        recovery = at.traffic.recovery(time.monotonic())

        assert not at.traffic.number("con_lost")
        assert recovery < BOUND


@pytest.mark.parametrize("by_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("after", [3, 150], ids=["in the handshake", "in replies"])
def test_connections_that_are_cut(net: Network, after: int, by_reset: bool) -> None:
    """A connection that ends in the middle of a line never leaves part of a reply behind."""
    with scene(net) as at:
        at.proxy.faults.cut_by_reset = by_reset
        at.proxy.faults.cut_after = after
        at.traffic.wait_for(20, "con_lost")
        at.proxy.heal()
        recovery = at.traffic.recovery(time.monotonic())

        assert recovery < BOUND


def test_resets_under_traffic(net: Network) -> None:
    """A reset costs what was on those connections, and nothing else."""
    with scene(net) as at:
        events = len(net.events)
        for _ in range(5):
            at.proxy.reset()
            at.traffic.wait_for(10, "ok")
        recovery = at.traffic.recovery(time.monotonic())

        assert recovery < BOUND
        lost = at.logged(events)["reply_lost connection_lost"]
        assert lost <= 5 * 5, "no more than there were connections"


def test_closed_while_idle(net: Network) -> None:
    """Idle connections that lond, or a firewall, has closed cost no con_lost at all."""
    net.add("msul2")
    with FaultProxy(net.londs["msul2"].port) as proxy:
        net.hosts["msul2"]["port"] = proxy.port
        net.start()
        began = time.monotonic()
        for end in (proxy.close_all, proxy.reset) * 3:
            assert net.ask("msul2", b"ping") == b"msul2"
            end()
        assert net.ask("msul2", b"ping") == b"msul2"

        assert time.monotonic() - began < 10.0
        assert net.daemon
        net.daemon.end()


def test_a_slow_close(net: Network) -> None:
    """A lond whose end is heard of late holds its requests for reply_timeout at most."""
    with scene(net) as at:
        at.proxy.faults.slow_close = 10.0
        at.lond.kill()
        at.traffic.wait_for(5, "con_lost")
        at.lond.start()
        at.proxy.heal()
        back = time.monotonic()
        recovery = at.traffic.recovery(back)

        assert recovery < REPLY_TIMEOUT + BOUND


@pytest.mark.parametrize("fault", ["black_hole", "half_open"])
def test_silence(net: Network, fault: str) -> None:
    """A connection that falls silent holds what is on it for reply_timeout, no longer."""
    with scene(net) as at:
        events = len(net.events)
        setattr(at.proxy.faults, fault, True)
        at.traffic.wait_for(4, "con_lost")
        at.proxy.heal()
        back = time.monotonic()
        recovery = at.traffic.recovery(back)

        assert recovery < REPLY_TIMEOUT + BOUND
        assert at.logged(events)["reply_lost reply_timeout"]


def test_silence_while_a_long_request_is_sent(net: Network) -> None:
    """A lond that takes half a request and falls silent holds it for reply_timeout, no longer."""
    with scene(net, max_connections=1) as at:
        at.proxy.faults.half_open = True
        began = time.monotonic()
        assert net.ask("msul2", b"echo:" + b"y" * 8_000_000) == b"con_lost"
        took = time.monotonic() - began
        at.proxy.heal()
        recovery = at.traffic.recovery(time.monotonic())

        # One that was there before it may have had the connection first.
        assert took < 2 * REPLY_TIMEOUT + BOUND + net.pool["connect_timeout"]
        assert recovery < REPLY_TIMEOUT + BOUND


@pytest.mark.parametrize("open_ones", ["stay", "are reset"])
def test_refused(net: Network, open_ones: str) -> None:
    """A host that refuses is down and comes back; connections that stand are used meanwhile."""
    with scene(net) as at:
        at.proxy.refuse()
        if open_ones == "stay":
            at.traffic.wait_for(50, "ok")
            assert not at.traffic.number("con_lost"), "connections that stand are used"
        else:
            at.proxy.reset()
            at.traffic.wait_for(20, "con_lost")
            net.wait_for("host_down", host="msul2")
        at.proxy.allow()
        recovery = at.traffic.recovery(time.monotonic())

        assert recovery < BOUND


def test_lond_killed_and_started(net: Network) -> None:
    """A lond that was killed is in use again within a backoff step and a second."""
    with scene(net) as at:
        at.lond.kill()
        at.traffic.wait_for(20, "con_lost")
        at.lond.start()
        recovery = at.traffic.recovery(time.monotonic())

        assert recovery < BOUND


@pytest.mark.parametrize(("fault", "kind"), HANDSHAKE_FAULTS)
def test_a_handshake_that_fails(net: Network, fault: str, kind: str) -> None:
    """Whatever lond does in place of a handshake: down, and up again with the first good one."""
    with scene(net, handshake_timeout=0.5) as at:
        at.lond.kill()
        at.lond.options += ("--fault", fault)
        at.lond.start()
        net.wait_for("connection_failed", host="msul2", error=kind)
        at.traffic.wait_for(10, "con_lost")
        at.lond.kill()
        at.lond.options = at.lond.options[:-2]
        at.lond.start()
        recovery = at.traffic.recovery(time.monotonic())

        assert recovery < 0.5 + BOUND, "an attempt may be under way"


@pytest.mark.parametrize(
    ("request_line", "kind"),
    [
        (b"fault:drop-before", "connection_lost"),
        (b"fault:drop-middle", "connection_lost"),
        (b"fault:mute", "reply_timeout"),
        (b"fault:half-open", "reply_timeout"),
        (b"fault:endless", "reply_too_long"),
        (b"encrypt:fault:bad-seal", "bad_sealed_reply"),
    ],
)
def test_a_reply_that_fails(net: Network, request_line: bytes, kind: str) -> None:
    """A reply that is lost costs its own request: not one of the others is touched by it."""
    with scene(net, max_reply_bytes=1_000_000) as at:
        assert net.ask("msul2", request_line) == b"con_lost"
        recovery = at.traffic.recovery(time.monotonic())

        net.wait_for("reply_lost", host="msul2", error=kind)
        assert not at.traffic.number("con_lost")
        assert recovery < BOUND


@pytest.mark.parametrize("fault", ["extra-line", "drop-after", "drip", "empty"])
def test_a_reply_that_comes_with_something(net: Network, fault: str) -> None:
    """A whole reply is passed on, and the bytes after it reach no client.

    A line of lond's own that comes later (`later-line`) is not in here: lines carry no number, so
    one that comes while the next request is under way is that one's reply. No lonc could tell.
    """
    with scene(net) as at:
        for i in range(20):
            request = b"fault:%s:n%d" % (fault.encode(), i)
            reply = net.ask("msul2", request)
            # A request that is written in the moment in which lond closes may have run.
            if fault != "drop-after" or reply != b"con_lost":
                assert reply == (b"" if fault == "empty" else request)
        recovery = at.traffic.recovery(time.monotonic())

        assert fault == "drop-after" or not at.traffic.number("con_lost")
        assert recovery < BOUND
