# SPDX-License-Identifier: GPL-2.0-or-later
"""The way to a lond: its addresses, and a TCP connection to the first one that takes it."""

from __future__ import annotations

import errno
import os
from math import inf
from socket import (
    AI_NUMERICHOST,
    AI_NUMERICSERV,
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
    gaierror,
    getaddrinfo,
    socket,
)
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from gevent import Timeout

from lonc_gevent.configuration.names import is_loopback
from lonc_gevent.errors import ConnectTimeoutError, UnreachableError, UnresolvableError
from lonc_gevent.eventloop.participants import DeadlineError

if TYPE_CHECKING:
    from gevent.hub import Hub

    from lonc_gevent.configuration.settings import HostSettings
    from lonc_gevent.eventloop.stream import Stream

KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 60, 15, 4
"""Seconds, seconds, probes: a peer that vanished without a word is found in two minutes."""

LOOPBACK = "127.0.0.1"
"""Where a lond of this machine is: it compares its peer with just this (protocol.md, 3c)."""


class Address(NamedTuple):
    """One of the addresses of a host, as getaddrinfo gives them."""

    family: int
    sockaddr: tuple[Any, ...]


def dial(host: HostSettings, hub: Hub, stream: Stream) -> None:
    """Connect the stream to the first address of the host that takes it.

    All of them together have `connect_timeout`. Raises UnresolvableError, UnreachableError or
    ConnectTimeoutError, with the stream closed.
    """
    timeout = host.pool.connect_timeout
    end = monotonic() + timeout
    addresses = resolve(host, hub, timeout)
    if host.security == "local":
        _refuse_others(addresses)
    failure: UnreachableError | ConnectTimeoutError | None = None
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        now = monotonic()
        # An even share of what is left, so that one mute address does not use up all of it.
        deadline = now + max(end - now, 0.0) / left
        try:
            _dial_address(address, stream, deadline, host.pool.reply_timeout)
        except DeadlineError:
            failure = ConnectTimeoutError(f"{_name(address)}: no answer")
        except OSError as error:
            failure = UnreachableError(f"{_name(address)}: {_reason(error)}")
        else:
            return
        stream.close()
    raise failure or UnresolvableError(f"{host.dns_name}: no address")


def _refuse_others(addresses: list[Address]) -> None:
    """Refuse what is not this machine: security local proves nothing else (protocol.md, 3c)."""
    for address in addresses:
        if not is_loopback(address.sockaddr[0]):
            raise UnreachableError(f"{_name(address)}: security local is for this machine alone")


def resolve(host: HostSettings, hub: Hub, timeout: float) -> list[Address]:
    """Return the host's addresses: its `address` setting, or those of its DNS name.

    A host of security local without `address` is looked for on the loopback interface.

    Raises UnresolvableError, after `timeout` seconds at the latest.
    """
    name = host.address or (LOOPBACK if host.security == "local" else host.dns_name)
    try:
        found = getaddrinfo(
            name, host.port, type=SOCK_STREAM, flags=AI_NUMERICHOST | AI_NUMERICSERV
        )
    except (gaierror, UnicodeError):
        return _look_up(name, host.port, hub, timeout)
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]


def _look_up(name: str, port: int, hub: Hub, timeout: float) -> list[Address]:
    try:
        with Timeout(timeout):
            found = hub.resolver.getaddrinfo(name, port, 0, SOCK_STREAM)
    except Timeout:
        raise UnresolvableError(f"{name}: no answer from the resolver") from None
    except (OSError, UnicodeError) as error:
        raise UnresolvableError(f"{name}: {_reason(error)}") from None
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]


def _dial_address(address: Address, stream: Stream, deadline: float, user_timeout: float) -> None:
    with socket(address.family, SOCK_STREAM) as tcp:
        tcp.settimeout(0)
        tcp.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        tcp.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        tcp.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE)
        tcp.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
        tcp.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT)
        # Bytes that the peer does not acknowledge: give up when the reply could not count.
        tcp.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, int(user_timeout * 1000))
        code = tcp.connect_ex(address.sockaddr)
        stream.reopen(os.dup(tcp.fileno()))
        stream.deadline = deadline
        if code == errno.EINPROGRESS:
            stream.wait_writable()
            code = tcp.getsockopt(SOL_SOCKET, SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        stream.deadline = inf


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _name(address: Address) -> str:
    return f"{address.sockaddr[0]} port {address.sockaddr[1]}"
