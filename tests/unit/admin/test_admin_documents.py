# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents that many clients ask for at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import gevent
import pytest

from lonc_gevent.admin.documents import Document, expand, text_length

if TYPE_CHECKING:
    from collections.abc import Iterator


class Source:
    """Yields a text in pieces, with a pause between them; counts how often."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.times = 0
        self.error: Exception | None = None

    def make(self) -> Iterator[bytes]:
        """Yield the pieces."""
        self.times += 1
        for piece in self.pieces:
            gevent.sleep(0.001)
            yield piece
        if self.error is not None:
            raise self.error


def test_document_is_made_once_for_clients_at_the_same_time() -> None:
    """Ten clients get the same text, which was made once; a later one gets another."""
    source = Source(b"one ", b"two ", b"three")
    document = Document(source.make)

    readers: list[gevent.Greenlet[[], list[bytes]]]
    readers = [gevent.spawn(document.compressed) for _ in range(10)]
    gevent.joinall(readers, timeout=5)

    assert {b"".join(expand(reader.get())) for reader in readers} == {b"one two three"}
    assert source.times == 1
    document.compressed()
    assert source.times == 2


def test_large_document_is_expanded_whole() -> None:
    """What goes in comes out, if it compresses well or not at all."""
    text = b"x" * 3_000_000 + os.urandom(300_000)

    pieces = Document(lambda: (text,)).compressed()

    assert b"".join(expand(pieces)) == text
    assert text_length(pieces) == len(text)


def test_document_that_cannot_be_made_fails_for_all_who_wait_and_is_made_anew() -> None:
    """The error is raised in each of them; the next client makes a new attempt."""
    source = Source(b"one")
    source.error = KeyError()
    document = Document(source.make)
    readers = [gevent.spawn(_error_of, document) for _ in range(3)]
    gevent.joinall(readers, timeout=5)

    assert [reader.value for reader in readers] == [True] * 3
    assert source.times == 1
    source.error = None
    assert b"".join(expand(document.compressed())) == b"one"


def _error_of(document: Document) -> bool:
    with pytest.raises(KeyError):
        document.compressed()
    return True
