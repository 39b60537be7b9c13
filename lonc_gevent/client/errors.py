# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors of the client library, by what the caller can do about them.

ClientError                base class, with the host, the socket and `may_have_run`
  ConLostError             no reply; lonnet calls all of these con_lost
    NoDaemonError          no daemon accepts connections on the socket
      PermissionDeniedError  this user may not connect to the socket
    DisconnectedError      the daemon disconnected before its whole reply
  TimedOutError            no whole reply within the timeout
  ConFailedError           `critical` could neither deliver the request nor save it
  UnknownHostError         the daemon does not serve this host
  ReplyError               the reply reports an error; only with check=True or raise_for_error
  ArgumentError            a bad argument; also a ValueError and a TypeError

A ConLostError that is not of a subclass was sent by the daemon: no lond took the request, or lond
was lost before its whole reply (contract.md, "Sockets"). Error texts never hold a request or a
reply. ConLost, HungUpError and ConFailed are older names of ConLostError, DisconnectedError and
ConFailedError.
"""

from __future__ import annotations

import re

from lonc_gevent.errors import LoncError


class ClientError(LoncError):
    """A request was not answered, or its reply is an error.

    host          the host id
    socket        the path of the socket
    may_have_run  False: it has not run and will not, so it can be sent again. True: lond may have
                  run it, or may yet run it. None: lond answered with an error, and how far it got
                  is not known. Compare with `is False`
    """

    may_have_run: bool | None = True

    def __init__(self, host: str, socket: str, what: str) -> None:
        super().__init__(host, socket, what)
        self.host = host
        self.socket = socket

    def __str__(self) -> str:
        return f"{self.host}: {self.args[2]} (socket {self.socket})"


class ConLostError(ClientError):
    """The answer was `con_lost`, or there was no answer."""


class NoDaemonError(ConLostError):
    """No daemon listens on the socket. Nothing was sent."""

    may_have_run = False


class PermissionDeniedError(NoDaemonError):
    """Permission to connect to the socket is denied. Nothing was sent."""


class DisconnectedError(ConLostError):
    """The daemon disconnected before its whole reply."""


class TimedOutError(ClientError):
    """No whole reply came within the timeout, or no connection within connect_timeout."""


class ConFailedError(ClientError):
    """`critical` could neither deliver the request nor save it in the delayed directory."""


class UnknownHostError(ClientError):
    """The daemon does not serve this host. Nothing was sent."""

    may_have_run = False

    def __str__(self) -> str:
        return f"{self.host!r}: {self.args[2]} (socket {self.socket})"


class ReplyError(ClientError):
    """The reply reports an error: `word` is its kind, `detail` the rest.

    `detail` may hold data of users, so that no text of the error shows it, and no log should.

    `may_have_run` is None for `error`, and False for the others: lond rejected the request.
    """

    def __init__(self, word: str, detail: str = "", host: str = "", socket: str = "") -> None:
        super().__init__(host, socket, f"the reply is {word}")
        self.args = (word, "", host, socket)
        self.word = word
        self.detail = detail
        self.may_have_run = None if word == "error" else False

    def __str__(self) -> str:
        return f"{self.host + ': ' if self.host else ''}the reply is {self.word}"


class ArgumentError(ClientError, ValueError, TypeError):
    """An argument has the wrong type or value. Nothing was sent."""

    may_have_run = False

    def __init__(self, what: str) -> None:
        super().__init__("", "", what)
        self.args = (what,)

    def __str__(self) -> str:
        return str(self.args[0])


ConLost = ConLostError
HungUpError = DisconnectedError
ConFailed = ConFailedError

_ERRORS = re.compile(rb"(error|refused|rejected|unknown_cmd|unable_to_set|no_such_\w+)(?::(.*))?")
"""Replies that report an error (protocol.md, section 2)."""


def raise_for_error(answer: bytes, host: str = "", socket: str = "") -> bytes:
    """Return a reply, or raise ReplyError if it reports an error: `error:...`, `refused`.

    The others are `rejected`, `unknown_cmd`, `unable_to_set` and `no_such_...`. A value that
    happens to be one of these words cannot be distinguished from an error.
    """
    found = _ERRORS.fullmatch(answer)
    if found is None:
        return answer
    detail = (found[2] or b"").decode(errors="replace")
    raise ReplyError(found[1].decode(), detail, host, socket)
