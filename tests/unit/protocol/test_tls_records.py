# SPDX-License-Identifier: GPL-2.0-or-later
"""Where TLS ends and plain text goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lonc_gevent.protocol.tls_records import MAX_BODY, MAX_TAIL, NotARecordError, Records, Tail

CLOSE_NOTIFY = b"\x15\x03\x03\x00\x02\x01\x00"
TICKET = b"\x17\x03\x03\x01\x00" + bytes(range(256))


def in_pieces(data: bytes, size: int) -> list[bytes]:
    """Cut bytes into pieces."""
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_records_one_by_one(size: int) -> None:
    """Records come back whole and in order, however they arrive; the rest is kept."""
    records = Records()
    found = []
    for piece in in_pieces(TICKET + CLOSE_NOTIFY + TICKET[:20], size):
        records.add(piece)
        while (record := records.take()) is not None:
            found.append(record)

    assert found == [TICKET, CLOSE_NOTIFY]
    assert repr(records) == "<Records 20 bytes>"
    assert records.rest() == TICKET[:20]
    assert records.rest() == b""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"ok\n", "these bytes are not TLS"),
        (b"\x13\x03\x03\x00\x00", "these bytes are not TLS"),
        (b"\x19", "these bytes are not TLS"),
        (b"\x15\x02", "these bytes are not TLS"),
        (b"\x15\x03\x05", "these bytes are not TLS"),
        (b"\x17\x03\x03" + (MAX_BODY + 1).to_bytes(2, "big"), "a TLS record that is too long"),
    ],
)
def test_what_is_no_record(data: bytes, words: str) -> None:
    """What cannot become a record is told at the first byte that shows it, and kept."""
    records = Records(data)

    with pytest.raises(NotARecordError, match=f"^{words}$"):
        records.take()
    assert records.rest() == data


def test_the_longest_record() -> None:
    """One of just that length is one; so is one of none."""
    longest = b"\x17\x03\x03" + MAX_BODY.to_bytes(2, "big") + b"x" * MAX_BODY
    records = Records(longest[:-1])
    assert records.take() is None
    records.add(longest[-1:] + b"\x17\x03\x03\x00\x00")

    assert records.take() == longest
    assert records.take() == b"\x17\x03\x03\x00\x00"


def test_the_longest_tail() -> None:
    """Of just that length it may still end; with a byte more it may not."""
    size = MAX_TAIL - 4 * 5
    body = size // 4
    record = b"\x17\x03\x03" + body.to_bytes(2, "big") + b"x" * body
    tail = Tail()
    assert tail.plain(record * 4) == b""

    with pytest.raises(NotARecordError, match=r"^TLS goes on where it should have ended$"):
        tail.plain(b"\x17")


@pytest.mark.parametrize("size", [1, 3, 10_000])
@pytest.mark.parametrize("before", [b"", CLOSE_NOTIFY, TICKET + CLOSE_NOTIFY, TICKET * 2])
def test_the_tail_is_left_out(before: bytes, size: int) -> None:
    """What is still TLS is left out; from the first plain byte on all is plain."""
    tail = Tail()
    plain = b"version:$Revision: 1.402 $\n" + CLOSE_NOTIFY

    assert b"".join(map(tail.plain, in_pieces(before + plain, size))) == plain


def test_a_tail_without_end() -> None:
    """Records for ever are an error, with a bounded number of bytes held."""
    tail = Tail()
    for _ in range(MAX_TAIL // len(TICKET)):
        assert tail.plain(TICKET) == b""

    with pytest.raises(NotARecordError, match="should have ended"):
        tail.plain(TICKET)


@given(pieces=st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes(pieces: list[bytes]) -> None:
    """No byte is lost or made up: what comes out is an end of what went in."""
    tail = Tail()
    out = b"".join(map(tail.plain, pieces))

    assert b"".join(pieces).endswith(out)
