# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests as lines on the socket, the special replies, and timeouts."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from lonc_gevent.protocol import lines

from .errors import ArgumentError

OnConLost: TypeAlias = Literal["raise", "return"]
"""On con_lost: raise ConLostError, or return CON_LOST as lonnet does."""

Retry: TypeAlias = Literal["unsent", "idempotent", "never"]
"""Which requests are sent again: those that were provably not sent, all, or none."""
RETRIES: Final[tuple[Retry, ...]] = get_args(Retry)

CON_LOST: Final = lines.CON_LOST[:-1]
CON_DELAYED: Final = b"con_delayed"
"""What `critical` returns for a request that is saved and will be sent later."""
CON_FAILED: Final = b"con_failed"
"""What `critical(..., on_con_lost="return")` returns for a request that could not be saved."""

TIMEOUT: Final = 5.0
"""Seconds."""

LONGEST_TIMEOUT: Final = 1e6
"""Seconds; about the longest timeout that a socket accepts."""


def to_line(request: bytes, *, encrypt: bool) -> bytes:
    r"""Return a request as a line; `encrypt` has the daemon encrypt it on its way to lond.

    Raises ArgumentError if it is not bytes, or holds a `\n`: the daemon would take the rest for
    another request.
    """
    if not isinstance(request, bytes):
        raise ArgumentError(f"expected bytes, not {type(request).__name__}: make it by command()")
    if lines.LINE_END in request:
        raise ArgumentError("a request is one line and cannot hold a newline: escape it")
    if encrypt and not lines.encrypted_part(request):
        start = 0
        if request.startswith(b"sethost:"):
            start = request.find(b":", len(b"sethost:")) + 1
        request = b"".join((request[:start], b"encrypt:", request[start:]))
    return request + lines.LINE_END


def check_timeout(timeout: float, name: str = "timeout") -> float:
    """Return a timeout that a socket accepts. Raises ArgumentError if it is not above 0."""
    if isinstance(timeout, (int, float)) and timeout > 0:
        return min(timeout, LONGEST_TIMEOUT)
    raise ArgumentError(f"{name} = {timeout!r}: expected seconds above 0, math.inf for no limit")


def check_retry(retry: Retry) -> Retry:
    """Return a value of `retry=`. Raises ArgumentError if it is none of the three."""
    if retry in RETRIES:
        return retry
    raise ArgumentError(f"retry = {retry!r}: expected one of {', '.join(RETRIES)}")
