# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP connections to a lond, at the first of its addresses that accepts (RFC 8305)."""

from __future__ import annotations

import errno
import os
import select
from math import inf
from socket import (
    IPPROTO_TCP,
    SO_ERROR,
    SO_KEEPALIVE,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
    TCP_USER_TIMEOUT,
    socket,
)
from time import monotonic
from typing import TYPE_CHECKING

from gevent.select import poll as gevent_poll

from lonc_gevent.configuration.names import is_loopback
from lonc_gevent.errors import ConnectTimeoutError, NotSentError, UnreachableError

from .resolver import resolver_of, through_wakes

if TYPE_CHECKING:
    from gevent.hub import Hub

    from lonc_gevent.configuration.settings import HostSettings
    from lonc_gevent.eventloop import Stream

    from .resolver import Address

ATTEMPT_DELAY = 0.25
"""Seconds after which the next address is tried, while the earlier attempts go on."""

KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 60, 15, 4
"""Seconds, seconds, probes. They close an idle connection to a vanished peer in two minutes."""


def candidates(host: HostSettings, hub: Hub) -> list[Address]:
    """Return the addresses to try, within `connect_timeout`.

    Raises UnresolvableError; UnreachableError for security local with an address of another
    machine, where a key file proves nothing (protocol.md, 3c).
    """
    addresses = resolver_of(hub).addresses(host, host.pool.connect_timeout)
    for address in addresses:
        if host.security == "local" and not is_loopback(address.sockaddr[0]):
            raise UnreachableError(f"{address}: security local requires an address of this machine")
    return addresses


def dial(host: HostSettings, addresses: list[Address], stream: Stream) -> Address:
    """Connect the stream to the first of the addresses that accepts; return that address.

    The attempts begin ATTEMPT_DELAY apart, or as soon as one has failed, and have
    `connect_timeout` together. The addresses that failed and the one that accepted are removed
    from the list. Raises UnreachableError or ConnectTimeoutError.
    """
    attempts: dict[int, tuple[Address, socket]] = {}
    now_ready, wait_ready = select.poll(), gevent_poll()
    end = monotonic() + host.pool.connect_timeout
    delay = min(ATTEMPT_DELAY, host.pool.connect_timeout / len(addresses))
    waiting = list(addresses)
    failure: NotSentError | None = None
    left = inf
    try:
        while (waiting or attempts) and left > 0:
            left = max(end - monotonic(), 0.0)
            if waiting:
                address = waiting.pop(0)
                try:
                    tcp = _begin(address, host.pool.unacknowledged_timeout)
                except OSError as error:
                    addresses.remove(address)
                    failure = UnreachableError(f"{address}: {error.strerror}")
                    continue
                attempts[tcp.fileno()] = address, tcp
                now_ready.register(tcp.fileno(), select.POLLOUT)
                wait_ready.register(tcp.fileno(), select.POLLOUT)
            through_wakes(wait_ready.poll, 1000 * (min(delay, left) if waiting else left))
            # A connection made in time is used even if this process was stopped past the end.
            for fd, _ in now_ready.poll(0):
                now_ready.unregister(fd)
                wait_ready.unregister(fd)
                address, tcp = attempts.pop(fd)
                addresses.remove(address)
                code = tcp.getsockopt(SOL_SOCKET, SO_ERROR)
                if not code:
                    stream.open(tcp.detach())
                    return address
                tcp.close()
                failure = UnreachableError(f"{address}: {os.strerror(code)}")
    finally:
        for _, tcp in attempts.values():
            tcp.close()
    for address, _ in attempts.values():
        addresses.remove(address)
        failure = ConnectTimeoutError(f"{address}: no answer")
    raise failure or ConnectTimeoutError(f"{host.dns_name}: no answer")


def _begin(address: Address, unacknowledged_timeout: float) -> socket:
    """Begin to connect. Once the socket is writable SO_ERROR is the result. Raises OSError."""
    tcp = socket(address.family, SOCK_STREAM)
    try:
        tcp.settimeout(0)
        tcp.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        tcp.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        tcp.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE)
        tcp.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
        tcp.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT)
        # It also ends an idle connection, but only after the first probe was sent and lost.
        tcp.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, int(unacknowledged_timeout * 1000))
        code = tcp.connect_ex(address.sockaddr)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))  # noqa: TRY301 - as the other calls here raise it
    except BaseException:  # also a Timeout or GreenletExit: the descriptor must not leak
        tcp.close()
        raise
    return tcp
