# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the end of TLS in a stream of bytes that continues in plain text (protocol.md, 3d).

lond ends TLS without closing TCP. TLS records can still arrive after that: a close_notify, or a
late session ticket of TLS 1.3. Taken for plain text, they would corrupt the first line. So bytes
are split into records here and passed to TLS one by one. Bytes that are no record are plain text.

A record is a type (20 to 24), the number 3, a minor version (0 to 4), a length in two bytes, and as
many bytes. No line of lond begins so, as 20 to 24 are control characters.
"""

from __future__ import annotations

from typing import Final

HEADER: Final = 5
MAX_BODY: Final = (1 << 14) + 2048
"""Bytes of the longest body that any version of TLS allows."""

MAX_TAIL: Final = 1 << 16
"""Most bytes of records after the key: many times a close_notify and two tickets."""

_TYPES: Final = range(20, 25)
_MAJOR: Final = 3
_MINORS: Final = range(5)


class NotARecordError(ValueError):
    """The bytes are not the beginning of a TLS record."""


class Records:
    """Buffer that returns bytes as TLS records."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes = b"") -> None:
        self._data = bytearray(data)

    def __repr__(self) -> str:
        return f"<Records {len(self._data)} bytes>"

    def add(self, data: bytes) -> None:
        """Append bytes."""
        self._data += data

    def take(self) -> bytes | None:
        """Return the next whole record, or None if a part of it is missing.

        Raises NotARecordError as soon as the bytes cannot be a record, and keeps them.
        """
        data = self._data
        for place, good in zip(data[:3], (_TYPES, (_MAJOR,), _MINORS), strict=False):
            if place not in good:
                raise NotARecordError("these bytes are not TLS")
        if len(data) < HEADER:
            return None
        length = int.from_bytes(data[3:HEADER], "big")
        if length > MAX_BODY:
            raise NotARecordError("a TLS record longer than TLS allows")
        end = HEADER + length
        if len(data) < end:
            return None
        record = bytes(data[:end])
        del data[:end]
        return record

    def rest(self) -> bytes:
        """Remove and return all bytes."""
        rest = bytes(self._data)
        self._data.clear()
        return rest


class Tail:
    """Filter that drops TLS records after the end of TLS, up to the first plain byte."""

    __slots__ = ("_plain", "_records", "_seen")

    def __init__(self) -> None:
        self._records = Records()
        self._plain = False
        self._seen = 0

    def __repr__(self) -> str:
        return f"<Tail {'plain' if self._plain else 'records'}>"

    def plain(self, data: bytes) -> bytes:
        """Return the plain text among these bytes.

        Raises NotARecordError if more than MAX_TAIL bytes of records arrive.
        """
        if self._plain:
            return data
        self._seen += len(data)
        self._records.add(data)
        taken = 0
        try:
            while taken <= MAX_TAIL and (record := self._records.take()) is not None:
                taken += len(record)
        except NotARecordError:
            self._plain = True
            return self._records.rest()
        if self._seen > MAX_TAIL:
            raise NotARecordError("TLS continues after its end")
        return b""
