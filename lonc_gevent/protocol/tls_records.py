# SPDX-License-Identifier: GPL-2.0-or-later
"""Where TLS ends in a stream of bytes that is plain again after it (protocol.md, 3d).

lond drops TLS without closing TCP. What arrives after that can still be TLS: a close_notify, or a
TLS 1.3 session ticket that was late. Taken for plain text it would spoil the first line. So the
bytes are cut into records here, one is given to TLS at a time, and what is no record is plain.

A record is a type (20 to 24), 3, a minor version (0 to 4), a length in two bytes, and as many
bytes. No line of lond begins so: 20 to 24 are control characters.
"""

from __future__ import annotations

from typing import Final

HEADER: Final = 5
MAX_BODY: Final = (1 << 14) + 2048
"""Bytes; the longest body that any version of TLS allows."""

MAX_TAIL: Final = 1 << 16
"""Bytes of records after the key; a close_notify and two tickets have some 600."""

_TYPES: Final = range(20, 25)
_MAJOR: Final = 3
_MINORS: Final = range(5)


class NotARecordError(ValueError):
    """The bytes cannot be the beginning of a TLS record."""


class Records:
    """Collects bytes and gives them back as TLS records."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes = b"") -> None:
        self._data = bytearray(data)

    def __repr__(self) -> str:
        return f"<Records {len(self._data)} bytes>"

    def add(self, data: bytes) -> None:
        """Take what a read brought."""
        self._data += data

    def take(self) -> bytes | None:
        """Return the next whole record, None if it is not whole yet.

        Raises NotARecordError as soon as it cannot become one; the bytes stay.
        """
        data = self._data
        for place, good in zip(data[:3], (_TYPES, (_MAJOR,), _MINORS), strict=False):
            if place not in good:
                raise NotARecordError("these bytes are not TLS")
        if len(data) < HEADER:
            return None
        length = int.from_bytes(data[3:HEADER], "big")
        if length > MAX_BODY:
            raise NotARecordError("a TLS record that is too long")
        end = HEADER + length
        if len(data) < end:
            return None
        record = bytes(data[:end])
        del data[:end]
        return record

    def rest(self) -> bytes:
        """Hand over all bytes that are left."""
        rest = bytes(self._data)
        self._data.clear()
        return rest


class Tail:
    """Leaves out the records that still come after TLS has ended, up to the first plain byte."""

    __slots__ = ("_plain", "_records", "_seen")

    def __init__(self) -> None:
        self._records = Records()
        self._plain = False
        self._seen = 0

    def __repr__(self) -> str:
        return f"<Tail {'plain' if self._plain else 'records'}>"

    def plain(self, data: bytes) -> bytes:
        """Return what of these bytes is plain text.

        Raises NotARecordError for records without end.
        """
        if self._plain:
            return data
        self._seen += len(data)
        self._records.add(data)
        try:
            while self._records.take() is not None:
                pass
        except NotARecordError:
            self._plain = True
            return self._records.rest()
        if self._seen > MAX_TAIL:
            raise NotARecordError("TLS goes on where it should have ended")
        return b""
