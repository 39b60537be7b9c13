# SPDX-License-Identifier: GPL-2.0-or-later
"""Text from outside, made fit for a terminal, a log line or an error message.

File names, requests, replies and configuration files may hold any bytes, escape sequences of
terminals included. All that is printed of them goes through `escape`.
"""

from __future__ import annotations

from typing import Final

_BYTE_MIN: Final = 0xDC80
_BYTE_MAX: Final = 0xDCFF


def escape(text: str) -> str:
    """Return the text on one line, with an escape in place of what is not printable.

    Printable text is returned unchanged. Surrogates that stand for bytes (`surrogateescape`) become
    a backslash, `x` and two hexadecimal digits.
    """
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def escape_bytes(data: bytes) -> str:
    """Return bytes as printable ASCII."""
    return escape(data.decode("ascii", "surrogateescape"))


def _escape(char: str) -> str:
    if char.isprintable():
        return char
    if _BYTE_MIN <= ord(char) <= _BYTE_MAX:
        return f"\\x{ord(char) & 0xFF:02x}"
    return char.encode("unicode_escape").decode("ascii")
