# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines as requests and replies: a buffer for them, control lines, and prefixes of requests.

A request and a reply are one line each, which ends with one LF and may contain any other byte
(protocol.md, section 2). So framing means to search for the next LF.

Properties of LineBuffer:
  1. one whole line in one read, the common case, is not copied;
  2. a line that arrives in many parts takes time linear in its length: the buffer remembers how
     far it has searched, and grows as a bytearray does;
  3. it never contains more than its limit and one read.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from lonc_gevent.printable import escape_bytes

LINE_END = b"\n"

CON_LOST = b"con_lost\n"
"""Answer of the daemon if no lond took the request, or lond was lost before its whole reply."""

OK = b"ok\n"
"""Answer of the daemon to a control line."""

RESET_RETRIES = b"reset_retries\n"
"""Control line: open the retry gate of this host (protocol.md, section 2)."""

CLOSE_CONNECTIONS = b"close_connection_exit\n"
"""Control line: close this host's lond connections after their current requests."""

MAX_VERB = 32

Line: TypeAlias = bytes | bytearray
"""A whole line with its LF; a bytearray where that saves a copy."""

SETHOST = b"sethost:"
ENCRYPT = b"encrypt:"

_SESSION_CHANGES: Final = (b"sethost", b"ekey", b"init", b"exit", b"enc")
_CHANGE_BEGINS: Final = tuple(word[:2] for word in _SESSION_CHANGES)
_SKIPPED: Final = bytes(byte for byte in range(256) if not re.match(rb"[\w:]", b"%c" % byte))
_LONGEST_WORD: Final = len(b"sethost")
_EXAMINED: Final = 256
"""Bytes of a text that `changes_session` examines."""

SPECIAL_FIRST = frozenset(b"eEiIsS" + _SKIPPED)
"""First bytes of the requests that the daemon has to examine: those that may begin with
`sethost:`, `encrypt:`, or change the session. All others pass as they are."""


class LineTooLongError(Exception):
    """The line in the buffer is longer than the limit."""


class LineBuffer:
    """Buffer that returns bytes as lines, each with its LF.

    `limit` is the length of the longest line in bytes, with its LF. `data` are the buffered bytes;
    another bytearray with the same bytes may take its place. After LineTooLongError the buffer must
    not be used any more.
    """

    __slots__ = ("_searched", "data", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.data = bytearray()
        self._searched = 0

    def __len__(self) -> int:
        """Return the number of buffered bytes."""
        return len(self.data)

    def __repr__(self) -> str:
        return f"<LineBuffer {len(self.data)} of {self.limit} bytes>"

    def add(self, data: bytes) -> Line | None:
        """Append bytes; return the first whole line, or None.

        Raises LineTooLongError if that line is, or will be, longer than the limit.
        """
        if not self.data:
            end = data.find(LINE_END) + 1
            if end == len(data) and end <= self.limit:
                return data
        self.data += data
        return self.take()

    def take(self) -> Line | None:
        """Return the next whole line in the buffer, or None.

        Raises LineTooLongError as `add` does.
        """
        data = self.data
        if not data:
            return None
        end = data.find(LINE_END, self._searched) + 1
        if not end:
            self._searched = len(data)
            if len(data) >= self.limit:
                raise LineTooLongError
            return None
        if end > self.limit:
            raise LineTooLongError
        self._searched = 0
        if end == len(data):
            self.data = bytearray()
            return data
        if end > len(data) - end:  # copy what is shorter, the line or the rest
            self.data = data[end:]
            del data[end:]
            return data
        line = bytes(data[:end])
        del data[:end]
        return line

    @property
    def contents(self) -> bytes:
        """The buffered bytes."""
        return bytes(self.data)

    def refill(self, contents: bytes) -> None:
        """Replace the buffered bytes by these."""
        self.data = bytearray(contents)
        self._searched = 0

    def rest(self) -> bytes:
        """Remove and return all buffered bytes, which do not form a whole line."""
        rest = bytes(self.data)
        self.clear()
        return rest

    def clear(self) -> None:
        """Remove all buffered bytes."""
        if self.data:
            self.data = bytearray()
        self._searched = 0


def text_part(request: Line) -> tuple[int, bool]:
    """Return the start of the text that lond is to read, and whether it must be sealed.

    The text follows an optional `sethost:ID:` and, if it must be sealed, `encrypt:`, which is not
    sent. Anywhere else these are part of the text (protocol.md, section 3e).
    """
    head = request[:8]
    if head == ENCRYPT:
        return len(ENCRYPT), True
    if head == SETHOST:
        start = request.find(b":", len(SETHOST)) + 1
        if start and request.startswith(ENCRYPT, start):
            return start + len(ENCRYPT), True
        return start, False
    return 0, False


def encrypted_part(request: Line) -> int:
    """Return the start of the text to seal, or 0 if the request is sent in clear."""
    start, sealed = text_part(request)
    return start if sealed else 0


def changes_session(request: Line, start: int) -> bool:
    """Return whether lond's connection may be in another state after the text from `start` on.

    `sethost` chooses another host id, `ekey` another key, `init` begins a session, `exit` ends it
    (protocol.md, section 3), and what is in a client's own `enc:` line cannot be known. lond drops
    a carriage return from the command word, and a future one may do more, so everything that is
    neither a letter, a digit nor a colon is skipped, and case ignored. A text that begins with so
    much of that that no word is found may change the session, too.
    """
    begin = request[start : start + 2]
    if begin.isalnum() and not begin.lower().startswith(_CHANGE_BEGINS):
        return False  # most requests
    word = request[start : start + _EXAMINED].translate(None, _SKIPPED)[:_LONGEST_WORD].lower()
    is_cut = len(word) < _LONGEST_WORD and len(request) - start > _EXAMINED
    return is_cut or word.startswith(_SESSION_CHANGES)


def split_sethost(request: Line) -> tuple[bytes, Line]:
    """Split off a `sethost:ID:` prefix; return ID and the rest, or b"" and the request."""
    if request[:8] != SETHOST:
        return b"", request
    end = request.find(b":", len(SETHOST))
    if end < 0:
        return b"", request
    return bytes(request[len(SETHOST) : end]), request[end + 1 :]


def clear_prefix(request: Line, start: int) -> bytes:
    """Return the part before `encrypt:` of a request whose text to seal begins at `start`."""
    return bytes(request[: start - len(ENCRYPT)])


def verb(request: Line) -> str:
    """Return the request up to its first colon, at most 32 bytes, as printable ASCII."""
    head = bytes(request[: MAX_VERB + 1])
    end = head.find(b":")
    word = head[: end if end >= 0 else MAX_VERB].rstrip(LINE_END)[:MAX_VERB]
    return escape_bytes(word)
