# SPDX-License-Identifier: GPL-2.0-or-later
"""The session key, and `enc:` lines sealed and opened (protocol.md, section 4).

IDEA with a 16-byte key over 8-byte blocks, each block for itself (ECB): what lond speaks. It keeps
a casual reader out, no more: nothing proves that a line is whole or from whom it is, and in
insecure mode whoever listens can compute the key.
"""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

from cryptography.hazmat.decrepit.ciphers.algorithms import IDEA
from cryptography.hazmat.primitives.ciphers import Cipher as _BlockCipher
from cryptography.hazmat.primitives.ciphers.modes import ECB

from lonc_gevent.errors import BadSealedReplyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .lines import Line

PIECE = 65536
"""Clear bytes that `seal_pieces` and `open_pieces` work on in one go: about 0.6 ms."""

KEY_BYTES = 16
_BLOCK = 8
_HEX_BLOCK = 2 * _BLOCK
_SEALED = b"enc"
_MOST_LENGTH = len(b"1234567890")
"""Digits of LENGTH, at most."""
_NEWLINE = 0x0A
"""As a number: Python looks for that in a sixth of the time that it takes for b"\\n"."""
_ZERO = ord("0")
_PADDING = tuple(b" " * (_BLOCK - over) for over in range(_BLOCK))
"""What follows a text that is so many bytes longer than a number of blocks."""

# tr/a-z/A-Z/, then G-P to 0-9, then Q-Z to 0-9, each letter once.
_ID_DIGITS = bytes.maketrans(
    b"abcdefghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ",
    b"ABCDEF01234567890123456789" + b"01234567890123456789",
)


def _hex_digit(byte: int) -> int:
    """Give the digit that Perl's `pack "H"` sees in any character: low nibble, letters plus 9."""
    is_letter = bytes([byte]).isalpha()
    return b"0123456789abcdef"[(byte + 9 if is_letter else byte) & 15]


_PACK_H = bytes(_hex_digit(byte) for byte in range(256))


def session_key(server_id: str, client_id: str, build_key: bytes) -> bytes:
    """Derive the 16-byte key of a session (protocol.md, section 4).

    `server_id` is the lond's current id, `client_id` the id it takes us for, `build_key` its
    answer to `ekey` without the newline. Host ids may hold `-`, `_` or `.`: Perl packs these too,
    and so do we. What falls short of 32 digits is filled up with zeros, as Perl fills it.

    Raises ValueError if the build key is empty.
    """
    if not build_key:
        raise ValueError("the build key is empty")
    ids = (server_id + client_id).encode("utf-8", "surrogateescape").translate(_ID_DIGITS)
    digits = ((ids + build_key) * 3)[: 2 * KEY_BYTES].ljust(2 * KEY_BYTES, b"0")
    return binascii.unhexlify(digits.translate(_PACK_H))


def key_from_digits(digits: bytes) -> bytes:
    """Read the 16-byte key that is handed over as 32 hex digits (protocol.md, 3c and 3d).

    Raises ValueError, without the digits in its text, if it is anything else.
    """
    if len(digits) != 2 * KEY_BYTES:
        raise ValueError(f"a key of {2 * KEY_BYTES} hex digits was expected, another length came")
    try:
        return binascii.unhexlify(digits)
    except binascii.Error:
        raise ValueError("a key that is not all hex digits") from None


class Cipher:
    """Seals requests and opens replies with one session's key, for the life of that session.

    ECB carries nothing from block to block, so one encryptor and one decryptor are made here and
    kept: 0.6 us for a 64-byte message against 2.3 us with new ones (measured). They are only ever
    given whole blocks; a part of one would stay inside and shift all that follows.
    """

    __slots__ = ("_decrypt", "_encrypt")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key of {len(key)} bytes, expected {KEY_BYTES}")
        pair = _BlockCipher(IDEA(key), ECB())  # noqa: S305 - all that lond speaks # nosec B305
        self._encrypt = pair.encryptor().update
        self._decrypt = pair.decryptor().update

    def __repr__(self) -> str:
        return "<Cipher>"

    def seal(self, payload: Line) -> bytes:
        """`enc:LENGTH:HEX`, without a newline, for what follows `encrypt:` (no newline either).

        Padded with blanks to LENGTH // 8 + 1 blocks, as the Perl side does: a multiple of eight
        gets one block of blanks more.
        """
        length = len(payload)
        blocks = self._encrypt(payload + _PADDING[length % _BLOCK])
        return b"enc:%d:%s" % (length, binascii.hexlify(blocks))

    def seal_pieces(self, payload: Line) -> Iterator[bytes]:
        """`seal` in slices of PIECE bytes, so that the caller can let others run in between."""
        length = len(payload)
        yield b"enc:%d:" % length
        # The last slice is the one with the padding; it may be nothing but padding.
        last = length - length % PIECE
        view = memoryview(payload)
        for start in range(0, last, PIECE):
            yield binascii.hexlify(self._encrypt(view[start : start + PIECE]))
        padded = payload[last:] + _PADDING[length % _BLOCK]
        yield binascii.hexlify(self._encrypt(padded))

    def open(self, line: Line) -> bytes:
        """Give the clear text of a whole `enc:LENGTH:HEX` line, without its newline.

        LENGTH is decimal digits alone: no sign, blank, underscore or leading zero. Both block
        counts that senders make are accepted, LENGTH // 8 + 1 and LENGTH / 8 rounded up, and no
        other. A clear text with a newline in it is no line; a wrong key gives such.

        Raises BadSealedReplyError for anything else.
        """
        length, digits = _parse(line)
        return self._open_digits(digits, length)

    def open_pieces(self, line: Line) -> Iterator[bytes]:
        """`open` in slices of PIECE bytes, so that the caller can let others run in between.

        Raises BadSealedReplyError as `open` does, for a bad LENGTH at once, for a bad digit only
        where it stands: nothing of a line is to be used before the last piece has come.
        """
        length, digits = _parse(line)
        return self._open_slices(memoryview(digits), length)

    def _open_slices(self, digits: memoryview, length: int) -> Iterator[bytes]:
        """Do the work of `open_pieces`, once LENGTH is known to fit."""
        step = 2 * PIECE
        for at in range(0, len(digits), step):
            clear = self._open_digits(digits[at : at + step], length)
            length -= len(clear)
            yield clear

    def _open_digits(self, digits: Line | memoryview, length: int) -> bytes:
        """At most `length` clear bytes of these hex digits."""
        try:
            blocks = binascii.unhexlify(digits)
        except ValueError:
            # Without the cause: nothing of the line shall get into a log.
            raise BadSealedReplyError("an enc: line with something other than hex digits") from None
        clear = self._decrypt(blocks)[:length]
        if _NEWLINE in clear:
            raise BadSealedReplyError("an enc: line that opens to more than one line")
        return clear


def _parse(line: Line) -> tuple[int, Line]:
    """LENGTH, and the hex digits; raises BadSealedReplyError unless they can fit."""
    try:
        mark, number, digits = line.split(b":", 2)
    except ValueError:
        mark, number, digits = line.partition(b":")[0], b"", b""
    if mark != _SEALED:
        raise BadSealedReplyError("a line that does not start with enc:")
    if (
        not number.isdigit()
        or len(number) > _MOST_LENGTH
        or (number[0] == _ZERO and number != b"0")
    ):
        raise BadSealedReplyError("an enc: line without a proper LENGTH")
    length = int(number)
    size = len(digits)
    if size % _HEX_BLOCK or not 0 <= size // 2 - length <= _BLOCK:
        raise BadSealedReplyError("an enc: line whose LENGTH and hex digits do not fit")
    return length, digits
