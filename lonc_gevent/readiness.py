# SPDX-License-Identifier: GPL-2.0-or-later
"""Which streams have something to read: an epoll of our own, that wakes so many in a turn.

The loop's own watchers would do, but for this: libev invokes all that is ready before it looks
again, and its list of that grows without a limit. 10,000 web processes that left in the same
moment kept everybody else waiting for 90 to 150 ms; here for 20 to 60. A turn is short
whatever there is, and who hangs up gives way to who asks.

A request with a connection of its own costs the same either way (within 2 %): a system call a
turn more, and one less for each client that leaves, as libev answers each hang-up with an
epoll_ctl. On a connection that is kept open it costs 5 % more.
"""

from __future__ import annotations

import sys
from collections import deque
from select import EPOLLHUP, EPOLLIN, epoll
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from gevent.hub import Hub

READ: Final = 1
"""Of a watcher of the loop: wake when there is something to read."""

BURST: Final = 1024
"""Streams looked at in one turn."""

HANG_UPS: Final = 32
"""Of these, and again of those put off before, so many that were hung up on."""


SHARE: Final = 8
"""Of those put off, one in so many at least: 10,000 descriptors are not held open for long."""


class Reader(Protocol):
    """What there is to be told: a stream."""

    fd: int

    def on_readable(self) -> None:
        """Hear that there may be something to read. It is told again until it is read."""

    def on_put_off(self) -> None:
        """Hear that the descriptor is not watched any more, and `on_readable` comes later."""


class Readiness:
    """Watches descriptors. One for all streams of a hub."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._epoll = epoll()
        self._readers: dict[int, Reader] = {}
        self._put_off: deque[Reader] = deque()
        self._watcher = hub.loop.io(self._epoll.fileno(), READ)
        self._watcher.start(self._turn)
        self._later = hub.loop.timer(0)
        self._asked = 0
        """Of those looked at since the last catching up, those that were not hung up on."""

    def __repr__(self) -> str:
        return f"<Readiness of {len(self._readers)}, {len(self._put_off)} put off>"

    def watch(self, reader: Reader) -> None:
        """Tell the reader, from the next turn on, whenever its descriptor is readable."""
        self._readers[reader.fd] = reader
        self._epoll.register(reader.fd, EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Watch a descriptor no more that stays open."""
        del self._readers[fd]
        self._epoll.unregister(fd)

    def closed(self, fd: int) -> None:
        """Forget a descriptor that is closed now: the kernel has done so, too."""
        del self._readers[fd]

    def close(self) -> None:
        """Watch nothing any more."""
        for watcher in (self._watcher, self._later):
            watcher.stop()
            watcher.close()
        self._epoll.close()

    def _turn(self) -> None:
        readers = self._readers
        hang_ups = 0
        found = self._epoll.poll(0, BURST)
        for fd, events in found:
            reader = readers.get(fd)
            if reader is None:
                continue  # closed by one that came before it in this turn
            if events & EPOLLHUP:
                hang_ups += 1
                if hang_ups > HANG_UPS:
                    self._give_way(reader)
                    continue
            try:
                reader.on_readable()
            except BaseException:  # noqa: BLE001 - it would end the watcher, and with it all streams
                self.hub.handle_error(reader, *sys.exc_info())
        self._asked += len(found) - hang_ups

    def _give_way(self, reader: Reader) -> None:
        """Put off one that was hung up on; the epoll would only tell it again meanwhile."""
        self.unwatch(reader.fd)
        reader.on_put_off()
        if not self._put_off:
            self._later.start(self._catch_up)
        self._put_off.append(reader)

    def _catch_up(self) -> None:
        put_off = self._put_off
        # Whoever asks hangs up once: as many as have asked go, or they would pile up under load.
        due = max(HANG_UPS, self._asked, len(put_off) // SHARE)
        self._asked = 0
        try:
            for _ in range(min(len(put_off), due)):
                # It may be closed by now, or somebody else's: then it is woken for nothing.
                reader = put_off.popleft()
                try:
                    reader.on_readable()
                except BaseException:  # noqa: BLE001 - as above
                    self.hub.handle_error(reader, *sys.exc_info())
        finally:
            if put_off:
                self._later.start(self._catch_up)
