# SPDX-License-Identifier: GPL-2.0-or-later
"""Connecting to a host of several addresses, with fake londs on the loopback interface."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
import msgspec
import pytest
from sim_lond import settings

from lonc_gevent.backend import connect as connect_module
from lonc_gevent.backend.connect import connect
from lonc_gevent.backend.resolver import Address, Resolver, resolver_of
from lonc_gevent.backend.tls import Credentials
from lonc_gevent.errors import (
    ConnectTimeoutError,
    NotSentError,
    RefusedError,
    UnforeseenError,
    UnreachableError,
)
from lonc_gevent.eventloop import Stream
from lonc_gevent.fake_lond import FakeLond, Fault, Profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lonc_gevent.backend.lond import Lond

TIMES = {"connect_timeout": 5.0, "handshake_timeout": 0.5, "unacknowledged_timeout": 7.0}


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Replace this event loop's resolver by one that knows nothing."""
    resolver = Resolver(gevent.get_hub())
    monkeypatch.setattr(connect_module, "resolver_of", lambda _: resolver)
    monkeypatch.setattr("lonc_gevent.backend.dial.resolver_of", lambda _: resolver)
    return resolver


@contextmanager
def lond(address: str, port: int = 0, *faults: Fault) -> Iterator[FakeLond]:
    """Run a fake lond in this process."""
    profile = Profile(ids=("msul2",), faults=faults)
    with FakeLond(profile, host=address, port=port) as made:
        yield made


@contextmanager
def blackhole(address: str, port: int) -> Iterator[None]:
    """Listen where no further connection is accepted: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(2):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((address, port))
        yield


def connect_to(resolver: Resolver, port: int, *addresses: str) -> Lond:
    """Connect to a host whose name has these addresses."""
    host = msgspec.structs.replace(settings(**TIMES), dns_name="name.invalid", port=port)
    name = resolver._name(host)
    name.addresses = [Address(socket.AF_INET, (address, port)) for address in addresses]
    name.fresh_until = monotonic() + 60
    stream = Stream(gevent.get_hub())

    def expire() -> None:
        while True:
            gevent.sleep(0.02)
            if stream.deadline <= monotonic():
                stream.expire()

    janitor = gevent.spawn(expire)
    try:
        return connect(host, gevent.get_hub(), stream, Credentials())
    finally:
        janitor.kill()


@pytest.mark.parametrize("fault", ["refuse", "close", "mute-handshake", "garbage", "bad-challenge"])
def test_next_address_is_used_if_the_first_accepts_and_then_fails(
    resolver: Resolver, fault: str
) -> None:
    """A TCP connection alone is no lond; the next connection begins with the one that is."""
    with lond("127.0.0.2") as good, lond("127.0.0.3", good.port, Fault(fault, 1)) as bad:
        made = connect_to(resolver, good.port, "127.0.0.3", "127.0.0.2")
        assert made.exchange(b"ping\n") == b"msul2\n"
        made.close()
        assert (bad.accepted, good.accepted) == (1, 1)

        made = connect_to(resolver, good.port, "127.0.0.3", "127.0.0.2")
        made.close()
        assert (bad.accepted, good.accepted) == (1, 2)


def test_address_that_does_not_answer_costs_the_delay_once(resolver: Resolver) -> None:
    """The next address is tried beside it after a moment, and first from then on."""
    took = []
    with lond("127.0.0.2") as good, blackhole("127.0.0.3", good.port):
        for _ in range(2):
            began = monotonic()
            connect_to(resolver, good.port, "127.0.0.3", "127.0.0.2").close()
            took.append(monotonic() - began)

    assert took[0] < 2.0
    assert took[1] < 0.2


def test_error_of_the_lond_that_accepted_is_raised(resolver: Resolver) -> None:
    """It explains more than that nothing listens at another address."""
    with lond("127.0.0.2", 0, Fault("refuse")) as bad, pytest.raises(RefusedError):
        connect_to(resolver, bad.port, "127.0.0.2", "127.0.0.3")


def test_no_address_that_answers(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempts have connect_timeout together, and the next one looks the name up again."""
    monkeypatch.setitem(TIMES, "connect_timeout", 0.3)
    with lond("127.0.0.2") as good:
        port = good.port
    with (
        blackhole("127.0.0.3", port),
        blackhole("127.0.0.4", port),
        pytest.raises(ConnectTimeoutError, match=r"127\.0\.0\.4 port"),
    ):
        connect_to(resolver, port, "127.0.0.2", "127.0.0.3", "127.0.0.4")
    assert next(iter(resolver._names.values())).fresh_until < 0
    with pytest.raises(UnreachableError, match="refused"):
        connect_to(resolver, port, "127.0.0.2", "127.0.0.5")


def test_unforeseen_error_is_a_failed_attempt(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its type and its place are in the error, its text is not."""

    def shake_hands(*_: Any, **__: Any) -> None:
        raise OverflowError("5EC2E7")

    monkeypatch.setattr(connect_module, "shake_hands", shake_hands)
    with lond("127.0.0.2") as good:
        with pytest.raises(UnforeseenError, match="OverflowError in shake_hands") as caught:
            connect_to(resolver, good.port, "127.0.0.2")
        assert "5EC2E7" not in str(caught.value)
        assert isinstance(caught.value, NotSentError)
        gevent.sleep(0.05)
        assert good.connections == 0


def test_vanished_lond_is_noticed_by_the_kernel(resolver: Resolver) -> None:
    """Unacknowledged bytes end the connection after unacknowledged_timeout, not reply_timeout."""
    with lond("127.0.0.2") as good:
        made = connect_to(resolver, good.port, "127.0.0.2")
        with socket.socket(fileno=os.dup(made.stream.fd)) as tcp:
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
            assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        made.close()


def test_resolver_is_one_for_an_event_loop() -> None:
    """All hosts share its threads."""
    assert resolver_of(gevent.get_hub()) is resolver_of(gevent.get_hub())
