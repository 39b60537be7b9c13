# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors of the client library, by what the caller can do about them.

ClientError         base class, with the host and the socket
  ConLost           no reply; lonnet calls all of these con_lost
    NoDaemonError   no daemon accepts connections on the socket: nothing was sent
    HungUpError     the daemon disconnected before its whole reply: the request may have run
  TimedOutError     no whole reply within the timeout: the request may have run, or may yet run
  ConFailed         `critical` could neither deliver the request nor save it
  UnknownHostError  there is no socket for this host: nothing was sent

A ConLost that is not of a subclass was sent by the daemon: no lond took the request, or lond was
lost before its whole reply, in which case the request may have run (contract.md, "Sockets").
Error texts never hold a request or a reply.
"""

from __future__ import annotations

from lonc_gevent.errors import LoncError


class ClientError(LoncError):
    """A request was not answered. `host` is its host id, `socket` the path of the socket."""

    def __init__(self, host: str, socket: str, what: str) -> None:
        super().__init__(host, socket, what)
        self.host = host
        self.socket = socket

    def __str__(self) -> str:
        return f"{self.host}: {self.args[2]} (socket {self.socket})"


class ConLost(ClientError):  # noqa: N818 - the reply's own name (protocol.md, section 2)
    """The answer was `con_lost`, or there was no answer."""


class NoDaemonError(ConLost):
    """No daemon listens on the socket, or it may not be connected to. Nothing was sent."""


class HungUpError(ConLost):
    """The daemon disconnected before its whole reply. The request may have run."""


class TimedOutError(ClientError):
    """No whole reply came within the timeout. The request may have run, or may yet run."""


class ConFailed(ClientError):  # noqa: N818 - lonnet's own name for it (protocol.md, section 2)
    """`critical` could neither deliver the request nor save it in the delayed directory."""


class UnknownHostError(ClientError):
    """There is no socket for this host. Nothing was sent."""
