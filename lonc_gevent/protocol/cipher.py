# SPDX-License-Identifier: GPL-2.0-or-later
"""The session key, and sealing and opening of `enc:` lines (protocol.md, section 4).

lond uses IDEA with a 16-byte key in ECB mode: 8-byte blocks, each encrypted by itself. That keeps
out casual readers only. Nothing authenticates a line, and in insecure mode the key can be computed
from the network traffic.
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
"""Clear bytes that `seal_pieces` and `open_pieces` process in one step: under a millisecond."""

KEY_BYTES = 16
_BLOCK = 8
_HEX_BLOCK = 2 * _BLOCK
_SEALED = b"enc"
_MOST_LENGTH = len(b"1234567890")
"""Most digits of LENGTH."""
_MOST_HEAD = len(b"enc::") + _MOST_LENGTH
"""Most bytes before the hex digits."""
_NEWLINE = 0x0A
"""As a number: `in` finds a number in bytes several times as fast as b"\\n"."""
_ZERO = ord("0")
_PADDING = tuple(b" " * (_BLOCK - over) for over in range(_BLOCK))
"""Padding of a text, by the number of its bytes in the last block."""

# tr/a-z/A-Z/, then G-P to 0-9, then Q-Z to 0-9, each letter once.
_ID_DIGITS = bytes.maketrans(
    b"abcdefghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ",
    b"ABCDEF01234567890123456789" + b"01234567890123456789",
)


def _hex_digit(byte: int) -> int:
    """Return the digit that Perl's `pack "H"` reads in a character: low nibble, letters plus 9."""
    is_letter = bytes([byte]).isalpha()
    return b"0123456789abcdef"[(byte + 9 if is_letter else byte) & 15]


_PACK_H = bytes(_hex_digit(byte) for byte in range(256))


def session_key(server_id: str, client_id: str, build_key: bytes) -> bytes:
    """Derive the 16-byte key of a session (protocol.md, section 4).

    `server_id` is the lond's current id, `client_id` the id that lond knows this client by,
    `build_key` its answer to `ekey` without the newline. `-`, `_` and `.` in host ids are packed as
    Perl packs them. Fewer than 32 digits are padded with zeros, as in Perl.

    Raises ValueError if the build key is empty.
    """
    if not build_key:
        raise ValueError("the build key is empty")
    ids = (server_id + client_id).encode("utf-8", "surrogateescape").translate(_ID_DIGITS)
    digits = ((ids + build_key) * 3)[: 2 * KEY_BYTES].ljust(2 * KEY_BYTES, b"0")
    return binascii.unhexlify(digits.translate(_PACK_H))


def key_from_digits(digits: bytes) -> bytes:
    """Return the 16-byte key that was sent as 32 hex digits (protocol.md, 3c and 3d).

    Raises ValueError, without the digits in its text, if it is anything else.
    """
    if len(digits) != 2 * KEY_BYTES:
        raise ValueError(f"expected a key of {2 * KEY_BYTES} hex digits, received another length")
    try:
        return binascii.unhexlify(digits)
    except binascii.Error:
        raise ValueError("expected a key of hex digits, received other characters") from None


class Cipher:
    """Seals requests and opens replies with the key of one session, as long as the session lasts.

    ECB keeps no state between blocks, so one encryptor and one decryptor serve all messages. They
    must be given whole blocks only: a part of a block would remain and shift all later output.
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
        """Return `enc:LENGTH:HEX` for the text after `encrypt:`, both without a newline.

        Pads with blanks to LENGTH // 8 + 1 blocks, as Perl does: a multiple of eight bytes gets a
        whole block of padding.
        """
        length = len(payload)
        blocks = self._encrypt(payload + _PADDING[length % _BLOCK])
        return b"enc:%d:%s" % (length, binascii.hexlify(blocks))

    def seal_pieces(self, payload: Line | memoryview) -> Iterator[bytes]:
        """Yield the parts of `seal`, PIECE bytes each: the caller can switch between them."""
        length = len(payload)
        yield b"enc:%d:" % length
        # The last slice has the padding and may consist of padding only.
        last = length - length % PIECE
        view = memoryview(payload)
        for start in range(0, last, PIECE):
            yield binascii.hexlify(self._encrypt(view[start : start + PIECE]))
        padded = bytes(view[last:]) + _PADDING[length % _BLOCK]
        yield binascii.hexlify(self._encrypt(padded))

    def open(self, line: Line) -> bytes:
        """Return the clear text of a whole `enc:LENGTH:HEX` line without its newline.

        LENGTH is decimal digits only: no sign, blank, underscore or leading zero. The number of
        blocks must be one of the two that senders use, LENGTH // 8 + 1 or LENGTH / 8 rounded up.

        Raises BadSealedReplyError for anything else, and for a clear text with a newline, which is
        a sign of a wrong key.
        """
        length, digits = _split_sealed(line)
        return self._open_digits(digits, length)

    def open_pieces(self, line: Line | memoryview) -> Iterator[bytes]:
        """Yield the parts of `open`, PIECE bytes each: the caller can switch between them.

        Raises BadSealedReplyError as `open` does: for a bad LENGTH at once, for a bad digit when
        its part is reached. So no part may be used before the last one was yielded.
        """
        length, digits = _split_sealed(line)
        return self._open_slices(memoryview(digits), length)

    def _open_slices(self, digits: memoryview, length: int) -> Iterator[bytes]:
        """Yield the parts of a line whose LENGTH was checked."""
        step = 2 * PIECE
        for at in range(0, len(digits), step):
            clear = self._open_digits(digits[at : at + step], length)
            length -= len(clear)
            yield clear

    def _open_digits(self, digits: Line | memoryview, length: int) -> bytes:
        """Return at most `length` clear bytes of these hex digits."""
        try:
            blocks = binascii.unhexlify(digits)
        except ValueError:
            # Without the cause, so that no part of the line gets into a log.
            raise BadSealedReplyError(
                "an enc: line with characters that are not hex digits"
            ) from None
        clear = self._decrypt(blocks)[:length]
        if _NEWLINE in clear:
            raise BadSealedReplyError("an enc: line that opens to more than one line")
        return clear


def _split_sealed(line: Line | memoryview) -> tuple[int, Line | memoryview]:
    """Return LENGTH and the hex digits. Raises BadSealedReplyError unless they fit."""
    mark, _, rest = bytes(line[:_MOST_HEAD]).partition(b":")
    number, colon, _ = rest.partition(b":")
    digits = line[len(mark) + len(number) + 2 :]
    if mark != _SEALED:
        raise BadSealedReplyError("a line that does not start with enc:")
    if (
        not (colon and number.isdigit())
        or len(number) > _MOST_LENGTH
        or (number[0] == _ZERO and number != b"0")
    ):
        raise BadSealedReplyError("an enc: line without a valid LENGTH")
    length = int(number)
    size = len(digits)
    if size % _HEX_BLOCK or not 0 <= size // 2 - length <= _BLOCK:
        raise BadSealedReplyError("an enc: line whose LENGTH does not fit its hex digits")
    return length, digits
