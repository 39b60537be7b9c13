# SPDX-License-Identifier: GPL-2.0-or-later
"""Large documents: made once for all clients that request one at the same time, and compressed.

So many clients cost the event loop no more than one, and for a client that reads slowly only the
compressed form is kept in memory.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, cast

from gevent.event import AsyncResult

from lonc_gevent.eventloop import in_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PIECE: Final = 16_384
"""Bytes that are compressed without a pause."""

_GZIP: Final = 31
"""zlib's number for a window of 32 KB in the gzip format."""


class Document:
    """One document. `make` yields its text in pieces and may sleep in between."""

    def __init__(self, make: Callable[[], Iterable[bytes]]) -> None:
        self._make = make
        self._under_way: AsyncResult[list[bytes]] | None = None

    def compressed(self) -> list[bytes]:
        """Return the gzip pieces of the text that is being made now, otherwise of a new one."""
        if self._under_way is not None:
            return cast("list[bytes]", self._under_way.get())
        result: AsyncResult[list[bytes]] = AsyncResult()
        self._under_way = result
        try:
            pieces = list(_compress(self._make()))
        except BaseException as error:
            result.set_exception(error)
            raise
        finally:
            self._under_way = None
        result.set(pieces)
        return pieces


def expand(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text of a compressed document, with pauses for other greenlets."""
    unpack = zlib.decompressobj(wbits=_GZIP)
    for piece in in_slices(pieces):
        yield unpack.decompress(piece)


def text_length(pieces: list[bytes]) -> int:
    """Return the length of a compressed document's text, which ends the gzip format."""
    return int.from_bytes(pieces[-1][-4:], "little")


def _compress(text: Iterable[bytes]) -> Iterator[bytes]:
    pack = zlib.compressobj(1, wbits=_GZIP)
    for whole in text:
        for first in in_slices(range(0, len(whole), PIECE)):
            packed = pack.compress(whole[first : first + PIECE])
            if packed:
                yield packed
    yield pack.flush()
