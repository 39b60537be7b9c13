# SPDX-License-Identifier: GPL-2.0-or-later
"""What a request looks like on the socket, and what `con_lost` becomes."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from lonc_gevent.protocol import lines

OnConLost: TypeAlias = Literal["raise", "return"]
"""What to do about con_lost: raise ConLost, or return CON_LOST as lonnet does."""

CON_LOST: Final = lines.CON_LOST[:-1]
CON_DELAYED: Final = b"con_delayed"
"""What `critical` returns for a request that is saved and will be sent later."""
CON_FAILED: Final = b"con_failed"
"""What `critical(..., on_con_lost="return")` returns for a request that could not be saved."""

TIMEOUT: Final = 360.0
"""Seconds; over what the daemon itself waits (queue_timeout and reply_timeout) by default."""

LONGEST_TIMEOUT: Final = 1e6
"""Seconds; what a socket takes as its timeout at most, or nearly."""

CHUNK: Final = 65536
"""Bytes read in one go."""

BACKLOG_FULL_PAUSE: Final = 0.005
"""Seconds between two tries to connect to a daemon that has many clients waiting."""


def to_line(request: bytes, *, encrypt: bool) -> bytes:
    r"""Return a request as a line; `encrypt` has the daemon encrypt it on its way to lond.

    Raises TypeError if it is no bytes, ValueError if there is a `\n` in it: the rest would be
    a request of its own.
    """
    if not isinstance(request, bytes):
        raise TypeError(f"a request is bytes, not {type(request).__name__}; encode it")
    if lines.LINE_END in request:
        raise ValueError("a request is one line; this has a newline in it")
    if encrypt and not lines.encrypted_part(request):
        start = 0
        if request.startswith(b"sethost:"):
            start = request.find(b":", len(b"sethost:")) + 1
        request = b"".join((request[:start], b"encrypt:", request[start:]))
    return request + lines.LINE_END


def check_timeout(timeout: float) -> float:
    """Return a timeout that a socket takes. Raises ValueError if it is not above 0."""
    if not timeout > 0:
        raise ValueError(f"timeout = {timeout!r}: expected a number of seconds above 0")
    return min(timeout, LONGEST_TIMEOUT)
