# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests as lines on the socket, the special replies, and timeouts."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from lonc_gevent.protocol import lines

OnConLost: TypeAlias = Literal["raise", "return"]
"""On con_lost: raise ConLost, or return CON_LOST as lonnet does."""

CON_LOST: Final = lines.CON_LOST[:-1]
CON_DELAYED: Final = b"con_delayed"
"""What `critical` returns for a request that is saved and will be sent later."""
CON_FAILED: Final = b"con_failed"
"""What `critical(..., on_con_lost="return")` returns for a request that could not be saved."""

TIMEOUT: Final = 360.0
"""Seconds; longer than the daemon waits by default (queue_timeout plus reply_timeout)."""

LONGEST_TIMEOUT: Final = 1e6
"""Seconds; about the longest timeout that a socket accepts."""


def to_line(request: bytes, *, encrypt: bool) -> bytes:
    r"""Return a request as a line; `encrypt` has the daemon encrypt it on its way to lond.

    Raises TypeError if it is not bytes, ValueError if it holds a `\n`: the daemon would take the
    rest for another request.
    """
    if not isinstance(request, bytes):
        raise TypeError(f"expected the request as bytes, not {type(request).__name__}: encode it")
    if lines.LINE_END in request:
        raise ValueError("a request is one line and cannot hold a newline")
    if encrypt and not lines.encrypted_part(request):
        start = 0
        if request.startswith(b"sethost:"):
            start = request.find(b":", len(b"sethost:")) + 1
        request = b"".join((request[:start], b"encrypt:", request[start:]))
    return request + lines.LINE_END


def check_timeout(timeout: float) -> float:
    """Return a timeout that a socket accepts. Raises ValueError if it is not above 0."""
    if not timeout > 0:
        raise ValueError(f"timeout = {timeout!r}: expected a number of seconds above 0")
    return min(timeout, LONGEST_TIMEOUT)
