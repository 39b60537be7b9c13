# SPDX-License-Identifier: GPL-2.0-or-later
"""Name resolution of the hosts, off the event loop.

The C library's resolver blocks its thread for 10 to 30 s if no name server answers. So:

- Each look-up has a thread of its own, and each name at most one look-up at a time.
- Names whose last look-up failed share TROUBLED threads. So hundreds of hosts with a dead name
  server use few threads, and the look-up of another name never waits for theirs.
- An answer is used for `network.resolve_interval` seconds without another look-up, or until an
  attempt to connect with it failed. If a look-up fails or is slow, the last answer is used.
"""

from __future__ import annotations

from _thread import start_new_thread
from contextlib import nullcontext
from math import inf
from socket import AI_NUMERICHOST, AI_NUMERICSERV, SOCK_STREAM, gaierror, getaddrinfo
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import gevent
from gevent.event import Event
from gevent.exceptions import InvalidSwitchError
from gevent.lock import BoundedSemaphore

from lonc_gevent.errors import UnresolvableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub

    from lonc_gevent.configuration.settings import HostSettings

_T = TypeVar("_T")

TROUBLED = 8
"""Threads shared by all names whose last look-up failed."""

STALE_WAIT = 0.5
"""Seconds to wait for a look-up if there is an older answer."""

PREFERENCE = 600.0
"""Seconds for which the address that worked last is tried first (RFC 8305, section 4)."""

LOOPBACK = "127.0.0.1"
"""Address of a lond of this machine, which compares its peer with just this (protocol.md, 3c)."""


class Address(NamedTuple):
    """One of the addresses of a host, as getaddrinfo returns them."""

    family: int
    sockaddr: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.sockaddr[0]} port {self.sockaddr[1]}"


class _Name:
    """The addresses of one name and port, and the state of its look-up."""

    __slots__ = ("addresses", "error", "fresh_until", "look_up", "preferred", "preferred_until")

    def __init__(self) -> None:
        self.addresses: list[Address] = []
        self.error = ""
        """Why the last look-up failed, or that it is slow; "" if it found addresses."""
        self.fresh_until = -inf
        self.look_up: gevent.Greenlet[..., None] | None = None
        self.preferred: Address | None = None
        self.preferred_until = -inf


class Resolver:
    """Name resolution for all hosts of an event loop."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._names: dict[tuple[str, int], _Name] = {}
        self._troubled = BoundedSemaphore(TROUBLED)

    def __repr__(self) -> str:
        return f"<Resolver of {len(self._names)} names>"

    def addresses(self, host: HostSettings, timeout: float) -> list[Address]:
        """Return the host's addresses, the one that worked last first.

        They are those of its `address` setting or of its DNS name. Raises UnresolvableError, after
        `timeout` seconds at the latest.
        """
        numeric = _numeric(host)
        if numeric:
            return numeric
        name = self._name(host)
        if monotonic() >= name.fresh_until:
            self._wait_for_look_up(host, name, timeout)
        if not name.addresses:
            raise UnresolvableError(f"{_target(host)}: {name.error}")
        if name.preferred in name.addresses and monotonic() < name.preferred_until:
            others = [address for address in name.addresses if address != name.preferred]
            return [name.preferred, *others]
        return list(name.addresses)

    def worked(self, host: HostSettings, address: Address) -> None:
        """Note that a session was made at this address."""
        if not _numeric(host):
            name = self._name(host)
            name.preferred = address
            name.preferred_until = monotonic() + PREFERENCE

    def failed(self, host: HostSettings) -> None:
        """Note that no session was made, so that the next attempt looks the name up again."""
        if not _numeric(host):
            self._name(host).fresh_until = -inf

    def look_up(self, host: HostSettings) -> gevent.Greenlet[..., None] | None:
        """Begin a look-up unless one is in progress; return its greenlet, None if not needed."""
        if _numeric(host):
            return None
        name = self._name(host)
        if name.look_up is None:
            name.look_up = gevent.spawn(self._look_up, host, name)
        return name.look_up

    def follow(self, host: HostSettings, use: Callable[[list[Address]], None]) -> None:
        """Look the host's name up, and call `use` with its addresses. Not for a numeric address."""

        def report(_: object) -> None:
            if addresses := self._name(host).addresses:
                use(addresses)

        look_up = self.look_up(host)
        if look_up is not None:
            look_up.link(report)

    def _name(self, host: HostSettings) -> _Name:
        return self._names.setdefault((_target(host), host.port), _Name())

    def _wait_for_look_up(self, host: HostSettings, name: _Name, timeout: float) -> None:
        look_up = self.look_up(host)
        if name.addresses:
            timeout = 0.0 if name.error else min(timeout, STALE_WAIT)
        if look_up is not None and timeout:
            through_wakes(look_up.join, timeout)
        if name.look_up is look_up:
            name.error = name.error or "no answer from the resolver"

    def _look_up(self, host: HostSettings, name: _Name) -> None:
        try:
            with self._troubled if name.error else nullcontext():
                found = self._in_thread(_target(host), host.port)
        except (OSError, UnicodeError) as error:
            name.error = getattr(error, "strerror", None) or type(error).__name__
        except RuntimeError:
            name.error = "no thread can be started for the resolver"
        else:
            name.addresses = _addresses(found)
            name.error = "" if found else "no address"
            name.fresh_until = monotonic() + host.resolve_interval
        finally:
            name.look_up = None

    def _in_thread(self, name: str, port: int) -> list[Any]:
        """Return what getaddrinfo returns in a thread. Raises RuntimeError if none can start."""
        outcome: list[Any] = []
        done = Event()
        signal = self._hub.loop.async_()

        def call() -> None:
            try:
                outcome.append(getaddrinfo(name, port, type=SOCK_STREAM))
            except Exception as error:  # noqa: BLE001 - raised in the greenlet that waits
                outcome.append(error)
            signal.send()

        signal.start(done.set)
        try:
            start_new_thread(call, ())
            done.wait()
        finally:
            signal.stop()
            signal.close()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return list(outcome[0])


def through_wakes(wait: Callable[[float], _T], timeout: float) -> _T:
    """Call a blocking function of gevent, again each time a stream resumes the greenlet.

    A stream resumes its greenlet by a plain switch, which may come as late as in a later wait.
    """
    while True:
        try:
            return wait(timeout)
        except InvalidSwitchError:
            continue


_resolvers: WeakKeyDictionary[Hub, Resolver] = WeakKeyDictionary()


def resolver_of(hub: Hub) -> Resolver:
    """Return the resolver of this event loop."""
    if hub not in _resolvers:
        _resolvers[hub] = Resolver(hub)
    return _resolvers[hub]


def _target(host: HostSettings) -> str:
    """Return the name or address to look up, for security local that of the loopback interface."""
    return host.address or (LOOPBACK if host.security == "local" else host.dns_name)


def _numeric(host: HostSettings) -> list[Address]:
    """Return the host's addresses if they need no look-up."""
    flags = AI_NUMERICHOST | AI_NUMERICSERV
    try:
        return _addresses(getaddrinfo(_target(host), host.port, type=SOCK_STREAM, flags=flags))
    except (gaierror, UnicodeError):
        return []


def _addresses(found: list[Any]) -> list[Address]:
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]
