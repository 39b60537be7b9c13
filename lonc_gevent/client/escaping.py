# SPDX-License-Identifier: GPL-2.0-or-later
"""Escaping of data in requests as LON-CAPA does it: `%XX`, and `key=value&key=value`.

A request is one line of fields joined by `:`, with lists in a field joined by `&` and `=`. So
lonnet escapes every byte of a value except letters, digits and `_` as `%` and two hex digits
(protocol.md, section 2, "RECALL-hi: lonnet escapes"). Text is encoded as UTF-8. Unescaping returns
bytes, since the encoding of a reply is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from .errors import ArgumentError

Value: TypeAlias = str | bytes | int | float
"""Types that can be escaped: bytes as they are, text as UTF-8, numbers as `str` formats them."""

_UNSAFE = re.compile(rb"[^A-Za-z0-9_]")
_UNSAFE_IN_FIELD = re.compile(rb"[^A-Za-z0-9_.@-]")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_ESCAPES = [b"%%%02x" % byte for byte in range(256)]


def _to_bytes(value: Value) -> bytes:
    if not isinstance(value, (bytes, str, int, float)):
        raise ArgumentError(f"expected text, bytes or a number, not {type(value).__name__}")
    return value if isinstance(value, bytes) else str(value).encode()


def escape(value: Value) -> bytes:
    """Escape a value for use as a field, a key or an item of a list. Raises ArgumentError."""
    return _UNSAFE.sub(lambda found: _ESCAPES[found[0][0]], _to_bytes(value))


def escape_field(value: Value) -> bytes:
    """Escape a whole field, but not `-`, `.` and `@`, which user names hold.

    lond takes names as they are, and unescapes other fields: these bytes mean the same in both.
    """
    return _UNSAFE_IN_FIELD.sub(lambda found: _ESCAPES[found[0][0]], _to_bytes(value))


def unescape(data: bytes) -> bytes:
    """Undo `escape`. A `%` without two hex digits after it is left as it is."""
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode("ascii")), data)


def pack(items: Mapping[str, Value] | Iterable[Value]) -> bytes:
    """Join `key=value` pairs, or the items of a list, with `&`; each is escaped first.

    pack({"first name": "Ada"}) -> b"first%20name=Ada"; pack(["a", "b"]) -> b"a&b"
    """
    if isinstance(items, Mapping):
        return b"&".join(escape(key) + b"=" + escape(value) for key, value in items.items())
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise ArgumentError(f"expected a mapping or a list, not {type(items).__name__}")
    return b"&".join(escape(item) for item in items)


def unpack(reply: bytes) -> dict[bytes, bytes]:
    """Split `key=value&key=value` and unescape it; a pair without `=` has the value b""."""
    pairs = (pair.partition(b"=") for pair in reply.split(b"&") if pair)
    return {unescape(key): unescape(value) for key, _, value in pairs}


def unpack_list(reply: bytes) -> list[bytes]:
    """Split `item&item` and unescape it; items may be empty."""
    return [unescape(item) for item in reply.split(b"&")] if reply else []
