# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of TLS in a stream that continues in plain text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lonc_gevent.protocol.tls_records import MAX_BODY, MAX_TAIL, NotARecordError, Records, Tail

CLOSE_NOTIFY = b"\x15\x03\x03\x00\x02\x01\x00"
TICKET = b"\x17\x03\x03\x01\x00" + bytes(range(256))


def in_pieces(data: bytes, size: int) -> list[bytes]:
    """Split bytes into pieces."""
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_records_are_returned_whole_and_in_order(size: int) -> None:
    """However the bytes arrive; bytes after them are kept."""
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
        (
            b"\x17\x03\x03" + (MAX_BODY + 1).to_bytes(2, "big"),
            "a TLS record longer than TLS allows",
        ),
    ],
)
def test_bytes_that_are_no_record_raise_at_the_first_wrong_byte(data: bytes, words: str) -> None:
    """The bytes are kept."""
    records = Records(data)

    with pytest.raises(NotARecordError, match=f"^{words}$"):
        records.take()
    assert records.rest() == data


def test_records_of_the_longest_and_shortest_length() -> None:
    longest = b"\x17\x03\x03" + MAX_BODY.to_bytes(2, "big") + b"x" * MAX_BODY
    records = Records(longest[:-1])
    assert records.take() is None
    records.add(longest[-1:] + b"\x17\x03\x03\x00\x00")

    assert records.take() == longest
    assert records.take() == b"\x17\x03\x03\x00\x00"


def test_a_tail_longer_than_max_tail_is_refused() -> None:
    size = MAX_TAIL - 4 * 5
    body = size // 4
    record = b"\x17\x03\x03" + body.to_bytes(2, "big") + b"x" * body
    tail = Tail()
    assert tail.plain(record * 4) == b""

    with pytest.raises(NotARecordError, match=r"^TLS continues after its end$"):
        tail.plain(b"\x17")


@pytest.mark.parametrize("size", [1, 3, 10_000])
@pytest.mark.parametrize("before", [b"", CLOSE_NOTIFY, TICKET + CLOSE_NOTIFY, TICKET * 2])
def test_records_before_the_first_plain_byte_are_dropped(before: bytes, size: int) -> None:
    tail = Tail()
    plain = b"version:$Revision: 1.402 $\n" + CLOSE_NOTIFY

    assert b"".join(map(tail.plain, in_pieces(before + plain, size))) == plain


def test_records_without_end_are_an_error() -> None:
    """The number of buffered bytes is bounded."""
    tail = Tail()
    for _ in range(MAX_TAIL // len(TICKET)):
        assert tail.plain(TICKET) == b""

    with pytest.raises(NotARecordError, match="continues after its end"):
        tail.plain(TICKET)


@given(pieces=st.lists(st.binary(max_size=40), max_size=8))
def test_no_byte_is_lost_or_added(pieces: list[bytes]) -> None:
    """The output is a suffix of the input."""
    tail = Tail()
    out = b"".join(map(tail.plain, pieces))

    assert b"".join(pieces).endswith(out)
