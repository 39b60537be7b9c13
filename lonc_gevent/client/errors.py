# SPDX-License-Identifier: GPL-2.0-or-later
"""What can come of a request besides a reply, by what the caller can do about it.

ClientError         every one of them: says which host and which socket
  ConLost           no reply; lonnet calls all of these con_lost
    NoDaemonError   nobody listens on the socket: nothing was sent
    HungUpError     the daemon left before its whole reply: the request may have run
  TimedOutError     no whole reply in time: the request may have run, or may yet run
  ConFailed         `critical` could neither deliver the request nor save it
  UnknownHostError  there is no socket for this host: nothing was sent

A ConLost that is no subclass is the daemon's own word: no lond took the request, or lond was
lost before its whole reply, and so it may have run (contract.md, "Sockets").
Texts never hold a request or a reply.
"""

from __future__ import annotations

from lonc_gevent.errors import LoncError


class ClientError(LoncError):
    """A request was not answered; `host` and `socket` say whose, and on which way."""

    def __init__(self, host: str, socket: str, what: str) -> None:
        super().__init__(host, socket, what)
        self.host = host
        self.socket = socket

    def __str__(self) -> str:
        return f"{self.host}: {self.args[2]} (socket {self.socket})"


class ConLost(ClientError):  # noqa: N818 - the reply's own name (protocol.md, section 2)
    """The answer was `con_lost`, or there was none."""


class NoDaemonError(ConLost):
    """Nobody listens on the socket, or we may not connect. Nothing was sent."""


class HungUpError(ConLost):
    """The daemon closed the connection before its whole reply. The request may have run."""


class TimedOutError(ClientError):
    """No whole reply came in time. The request may have run, or may yet run."""


class ConFailed(ClientError):  # noqa: N818 - lonnet's own name for it (protocol.md, section 2)
    """`critical` could neither deliver the request nor leave it in the delayed directory."""


class UnknownHostError(ClientError):
    """There is no socket for this host. Nothing was sent."""
