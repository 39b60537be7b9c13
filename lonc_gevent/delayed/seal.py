# SPDX-License-Identifier: GPL-2.0-or-later
"""Encryption of delayed requests at rest: AES-256-GCM, one line that begins with a version.

    lonc-sealed:1:<key id>:<base64 of nonce, ciphertext and tag>

The file's name is authenticated with it, so that a sealed request cannot be moved to the file of
another request or host. The key id is the beginning of a hash of the key: it distinguishes a wrong
key from a changed byte.

A key file is one line, `lonc-key:1:<64 hex digits>`.
"""

from __future__ import annotations

import hashlib
import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import Final

from Crypto.Cipher import AES  # pycryptodome, not the dead pyCrypto # nosec B413

from lonc_gevent.errors import UnsealError

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12

_TAG_BYTES = 16
_HEAD = b"lonc-sealed:1:"
_KEY_ID_DIGITS = 8
_KEY_LINE = re.compile(rb"lonc-key:1:([0-9a-f]{64})\n?")
_WRONG_BYTES = 3  # of the head, at most
_PIECE = 48 * 1024  # clear bytes; whole groups of three, so that the pieces join


class SealKey:
    """A key that seals and opens requests. Raises ValueError unless it has 32 bytes."""

    __slots__ = ("_key", "id")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key of {len(key)} bytes, expected {KEY_BYTES}")
        self._key = key
        self.id = hashlib.sha256(b"lonc-key-id:" + key).hexdigest()[:_KEY_ID_DIGITS]

    def __repr__(self) -> str:
        return f"<SealKey {self.id}>"

    def seal(self, request: bytes, name: bytes, nonce: bytes) -> bytes:
        """Return the sealed form of a request line, as a line.

        name   the file's name, which is authenticated
        nonce  12 random bytes, never used twice with this key
        """
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"a nonce of {len(nonce)} bytes, expected {NONCE_BYTES}")
        cipher = AES.new(self._key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
        cipher.update(self._bound(name))
        text, tag = cipher.encrypt_and_digest(request)
        return _HEAD + self.id.encode() + b":" + _coded(nonce + text + tag) + b"\n"

    def open(self, line: bytes, name: bytes) -> bytes:
        """Return the request line of a sealed form.

        Raises UnsealError; its `kind` is `wrong_key`, `unknown_seal` (of another version) or
        `broken_seal` (a byte was changed, or it was sealed for another file).
        """
        if not line.startswith(_HEAD):
            raise UnsealError("unknown_seal")
        key_id, colon, coded = line[len(_HEAD) :].partition(b":")
        if not colon or not coded.endswith(b"\n"):
            raise UnsealError("broken_seal")
        if key_id != self.id.encode():
            raise UnsealError("wrong_key")
        try:
            body = a2b_base64(coded[:-1], strict_mode=True)
        except Base64Error:
            raise UnsealError("broken_seal") from None
        # Canonical, too: the last digit before the padding has bits that no byte takes up.
        if len(body) < NONCE_BYTES + _TAG_BYTES or _coded(body) != coded[:-1]:
            raise UnsealError("broken_seal")
        nonce, text, tag = body[:NONCE_BYTES], body[NONCE_BYTES:-_TAG_BYTES], body[-_TAG_BYTES:]
        cipher = AES.new(self._key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
        cipher.update(self._bound(name))
        try:
            return cipher.decrypt_and_verify(text, tag)
        except ValueError:
            raise UnsealError("broken_seal") from None

    def _bound(self, name: bytes) -> bytes:
        return _HEAD + self.id.encode() + b":" + name


def is_sealed(data: bytes) -> bool:
    """Return whether a file's content is, or was, a sealed form, of any version.

    A sealed form with a few changed bytes in its head must not be sent as a request.
    """
    wrong = sum(a != b for a, b in zip(data, _HEAD, strict=False))
    return len(data) >= len(_HEAD) and wrong <= _WRONG_BYTES


def sealed_size(size: int) -> int:
    """Return the bytes of the sealed form of a request line of `size` bytes."""
    body = NONCE_BYTES + size + _TAG_BYTES
    return len(_HEAD) + _KEY_ID_DIGITS + 1 + -(-body // 3) * 4 + 1


def _coded(body: bytes) -> bytes:
    """Encode in pieces, as one long call would keep other threads waiting."""
    return b"".join(
        b2a_base64(body[i : i + _PIECE], newline=False) for i in range(0, len(body), _PIECE)
    )


def key_from_file(content: bytes) -> SealKey:
    """Parse the content of a key file. Raises ValueError, without the content in its text."""
    match = _KEY_LINE.fullmatch(content)
    if match is None:
        raise ValueError("expected one line, lonc-key:1: and 64 hex digits")
    return SealKey(bytes.fromhex(match[1].decode()))


def key_to_file(key: bytes) -> bytes:
    """Return the content of the key file for these 32 bytes."""
    return b"lonc-key:1:" + key.hex().encode() + b"\n"
