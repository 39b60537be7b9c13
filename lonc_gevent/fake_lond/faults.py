# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of the fake lond: names, numbers, effects.

A fault of the handshake is chosen when the fake lond is started. A fault of a request is chosen
then, for every request, or by the request itself: `fault:NAME[:NUMBER][:ANYTHING]`, whose reply, if
there is one, is the whole request text.
"""

from __future__ import annotations

import difflib
import enum
from typing import Final, NamedTuple


class Scope(enum.Enum):
    """What a fault applies to."""

    HANDSHAKE = "the handshake"
    REQUEST = "a request"
    CONNECTION = "a connection"


class Fault(NamedTuple):
    """A chosen fault with its number (0 if it has none)."""

    name: str
    number: int = 0


class Entry(NamedTuple):
    """A fault in the catalogue."""

    scope: Scope
    unit: str
    default: int | None
    """Number if none is given; None: the fault has no number or, with a unit, requires one."""
    does: str


_MOST = 1 << 28

CATALOGUE: Final[dict[str, Entry]] = {
    # Step 1 is the answer to init, step 2 the answer to the echoed challenge.
    "refuse": Entry(Scope.HANDSHAKE, "", None, "answers init with refused, then closes"),
    "close": Entry(Scope.HANDSHAKE, "", None, "closes at init, without a line"),
    "mute-handshake": Entry(Scope.HANDSHAKE, "", None, "never answers init"),
    "bad-challenge": Entry(Scope.HANDSHAKE, "", None, "answers the challenge with another line"),
    "garbage": Entry(Scope.HANDSHAKE, "STEP", 1, "sends an unexpected line at that step"),
    "long-line": Entry(Scope.HANDSHAKE, "BYTES", 5000, "sends a challenge of that many bytes"),
    "drop-handshake": Entry(Scope.HANDSHAKE, "STEP", 2, "closes in place of that step's answer"),
    "unable-to-set": Entry(Scope.HANDSHAKE, "", None, "answers sethost with unable_to_set"),
    "wants-version": Entry(Scope.HANDSHAKE, "", None, "refuses an init without a version"),
    "no-tls": Entry(Scope.HANDSHAKE, "", None, "sends ok:ssl, then plain text in place of TLS"),
    "mute-tls": Entry(Scope.HANDSHAKE, "", None, "sends ok:ssl, then nothing"),
    "bad-tls-key": Entry(Scope.HANDSHAKE, "", None, "sends a line in TLS that is not a key"),
    "drop-before": Entry(Scope.REQUEST, "", None, "closes before the reply"),
    "drop-middle": Entry(Scope.REQUEST, "", None, "closes in the middle of the reply"),
    "drop-after": Entry(Scope.REQUEST, "", None, "closes after the reply"),
    "drip": Entry(Scope.REQUEST, "MS", 1, "one byte every MS; as option, in the handshake too"),
    "extra-line": Entry(Scope.REQUEST, "", None, "one more line in the same write"),
    "later-line": Entry(Scope.REQUEST, "MS", 50, "one more line, MS after the reply"),
    "mute": Entry(Scope.REQUEST, "", None, "never answers, but continues to read"),
    "half-open": Entry(Scope.REQUEST, "", None, "never reads again; as option, from the start"),
    "big": Entry(Scope.REQUEST, "BYTES", None, "a reply of that many bytes"),
    "unended": Entry(Scope.REQUEST, "BYTES", 65536, "that many bytes, never a newline"),
    "endless": Entry(Scope.REQUEST, "BYTES", 65536, "bytes without end, that many at a time"),
    "empty": Entry(Scope.REQUEST, "", None, "an empty line"),
    "bad-seal": Entry(Scope.REQUEST, "", None, "an enc: line with a LENGTH that does not fit"),
    "bad-seal-hex": Entry(Scope.REQUEST, "", None, "an enc: line with digits that are not hex"),
    "bad-seal-lines": Entry(Scope.REQUEST, "", None, "an enc: line that opens to two lines"),
    "delay": Entry(Scope.REQUEST, "MS", None, "answers MS later"),
    "idle-line": Entry(Scope.CONNECTION, "MS", 50, "an unsolicited line, MS after the key"),
    "close-after": Entry(Scope.CONNECTION, "COUNT", None, "closes after that many requests"),
}


def parse_fault(text: str) -> Fault:
    """Parse `NAME` or `NAME:NUMBER`. Raises ValueError."""
    name, colon, number = text.partition(":")
    entry = CATALOGUE.get(name)
    if entry is None:
        near = difflib.get_close_matches(name, CATALOGUE, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"unknown fault {name!r}{hint}")
    if not colon and (entry.default is not None or not entry.unit):
        return Fault(name, entry.default or 0)
    if not entry.unit:
        raise ValueError(f"{name} has no number")
    if not (number.isascii() and number.isdigit()) or not 0 < int(number[:10]) <= _MOST:
        raise ValueError(f"{name}:{entry.unit}: expected a whole number from 1 to {_MOST}")
    return Fault(name, int(number))


def fault_of_request(text: bytes) -> Fault:
    """Parse the fault in a request `fault:NAME[:NUMBER][:ANYTHING]`.

    A field after NAME that is not a number belongs to ANYTHING. Raises ValueError for a fault that
    is unknown, requires a number, or is not of a request.
    """
    fields = text.decode("ascii", "replace").split(":", 3)
    _, name, number, *_ = [*fields, "", ""]
    spec = f"{name}:{number}" if number.isascii() and number.isdigit() else name
    fault = parse_fault(spec)
    if CATALOGUE[name].scope is not Scope.REQUEST:
        raise ValueError(f"{name} is a fault of {CATALOGUE[name].scope.value}")
    return fault


def list_faults() -> str:
    """Return the list of faults for `--help`."""
    lines = []
    for scope in Scope:
        lines.append(f"  of {scope.value}:")
        for name, entry in CATALOGUE.items():
            if entry.scope is scope:
                number = f":{entry.unit}" if entry.unit else ""
                number = f"[{number}]" if number and entry.default is not None else number
                lines.append(f"    {name + number:<22}{entry.does}")
    return "\n".join(lines)
