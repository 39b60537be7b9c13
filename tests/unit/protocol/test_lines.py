# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines: each case in one read, byte by byte, and with more bytes after it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lonc_gevent.protocol.lines import (
    SPECIAL_FIRST,
    LineBuffer,
    LineTooLongError,
    changes_session,
    clear_prefix,
    encrypted_part,
    split_sethost,
    text_part,
    verb,
)

LINES = [b"\n", b"ping\n", b"a:b:c\n", b"\x00\xff\r\n", b"x" * 5000 + b"\n"]


@pytest.mark.parametrize("line", LINES)
def test_a_line_in_one_read_is_not_copied(line: bytes) -> None:
    buffer = LineBuffer(10_000)

    assert buffer.add(line) is line
    assert len(buffer) == 0
    assert buffer.take() is None


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_returned_with_its_last_byte(line: bytes) -> None:
    buffer = LineBuffer(10_000)

    for i in range(len(line) - 1):
        assert buffer.add(line[i : i + 1]) is None

    assert buffer.add(line[-1:]) == line
    assert len(buffer) == 0


@pytest.mark.parametrize("line", LINES)
def test_bytes_after_a_line_are_kept(line: bytes) -> None:
    buffer = LineBuffer(10_000)

    assert buffer.add(line + b"next\nrest") == line
    assert buffer.take() == b"next\n"
    assert buffer.take() is None
    assert len(buffer) == 4
    assert buffer.add(b"\n") == b"rest\n"


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.data())
def test_lines_do_not_depend_on_how_reads_split_them(
    texts: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(text + b"\n" for text in texts)
    buffer = LineBuffer(100)
    out = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        chunk, stream = stream[:size], stream[size:]
        line = buffer.add(chunk)
        while line is not None:
            out.append(bytes(line))
            line = buffer.take()

    assert out == [text + b"\n" for text in texts]
    assert len(buffer) == 0


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_a_line_longer_than_the_limit_is_refused(chunk: int) -> None:
    """The limit includes the newline and does not depend on the reads."""
    for size, fits in ((16, True), (17, False)):
        line = b"x" * (size - 1) + b"\n"
        buffer = LineBuffer(16)
        found = None
        try:
            for i in range(0, size, chunk):
                found = buffer.add(line[i : i + chunk])
        except LineTooLongError:
            assert not fits
        else:
            assert fits
            assert found == line


def test_a_line_without_an_end_is_refused_at_the_limit() -> None:
    buffer = LineBuffer(8)
    assert buffer.add(b"1234567") is None

    with pytest.raises(LineTooLongError):
        buffer.add(b"8")


def test_no_byte_of_a_line_is_searched_twice() -> None:
    """The buffer remembers its position, also when the bytearray grows."""
    buffer = LineBuffer(10_000)
    buffer.add(b"abc")
    buffer.add(b"def")

    assert buffer._searched == 6


def test_clear_removes_all_bytes() -> None:
    buffer = LineBuffer(100)
    buffer.add(b"half")

    buffer.clear()

    assert buffer.add(b"ping\n") == b"ping\n"


@pytest.mark.parametrize(
    ("request_line", "prefix", "sealed"),
    [
        (b"encrypt:auth:x\n", b"", b"auth:x\n"),
        (b"encrypt:\n", b"", b"\n"),
        (b"sethost:msul1:encrypt:auth:x\n", b"sethost:msul1:", b"auth:x\n"),
    ],
)
def test_encrypt_counts_at_the_start_or_after_one_sethost(
    request_line: bytes, prefix: bytes, sealed: bytes
) -> None:
    start = encrypted_part(request_line)

    assert text_part(request_line) == (start, True)
    assert request_line[start:] == sealed
    assert clear_prefix(request_line, start) == prefix


@pytest.mark.parametrize(
    "request_line",
    [
        b"ping\n",
        b"encrypt\n",
        b"Encrypt:x\n",
        b"sethost:msul1\n",
        b"sethost:msul1:ping\n",
        b"sethost:msul1:put:encrypt:x\n",
        b"put:encrypt:x\n",
        b"\n",
    ],
)
def test_encrypt_elsewhere_is_part_of_the_text(request_line: bytes) -> None:
    assert encrypted_part(request_line) == 0
    start, sealed = text_part(request_line)
    assert not sealed
    assert request_line[start:] == split_sethost(request_line)[1]


@pytest.mark.parametrize(
    ("request_line", "word"),
    [
        (b"ping\n", "ping"),
        (b"auth:msu:smith:secret\n", "auth"),
        (b":x\n", ""),
        (b"\n", ""),
        (b"\xff\x1b:x\n", "\\xff\\x1b"),
        (b"v" * 40 + b"\n", "v" * 32),
        (b"v" * 32 + b":x\n", "v" * 32),
    ],
)
def test_the_verb_is_the_text_before_the_first_colon(request_line: bytes, word: str) -> None:
    """At most 32 bytes of it."""
    assert verb(request_line) == word


def test_a_line_of_the_limit_in_one_read_is_not_copied() -> None:
    line = b"1234567\n"

    assert LineBuffer(8).add(line) is line


def test_after_clear_and_after_a_line_the_search_starts_again() -> None:
    """The next byte may be a newline."""
    buffer = LineBuffer(100)
    buffer.add(b"half")
    buffer.clear()
    assert (len(buffer), buffer._searched) == (0, 0)
    assert buffer.add(b"\nx") == b"\n"
    assert buffer._searched == 0
    assert buffer.add(b"\n") == b"x\n"


@pytest.mark.parametrize(
    ("request_line", "word"),
    [(b"ping \n", "ping "), (b"ping\t\n", "ping\\t"), (b"ping\r\n", "ping\\r")],
)
def test_a_verb_keeps_its_blanks(request_line: bytes, word: str) -> None:
    assert verb(request_line) == word


def test_a_verb_longer_than_32_bytes_is_cut() -> None:
    assert verb(b"v" * 33 + b":x\n") == "v" * 32
    assert verb(b"v" * 31 + b"\n") == "v" * 31
    assert verb(b"v" * 32 + b"\n") == "v" * 32


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        (b"ping\n", (b"", b"ping\n")),
        (b"sethost:a:ping\n", (b"a", b"ping\n")),
        (b"sethost:a:encrypt:x:y\n", (b"a", b"encrypt:x:y\n")),
        (b"sethost:a\n", (b"", b"sethost:a\n")),
        (b"sethost::x\n", (b"", b"x\n")),
        (b"sethost:", (b"", b"sethost:")),
        (bytearray(b"sethost:a:\n"), (b"a", b"\n")),
    ],
)
def test_split_sethost_splits_off_the_prefix(
    request_line: bytes, expected: tuple[bytes, bytes]
) -> None:
    assert split_sethost(request_line) == expected


def test_refill_continues_with_the_contents_of_another_buffer() -> None:
    """Including an incomplete line; `rest` removes and returns it."""
    one, other = LineBuffer(10), LineBuffer(10)
    other.add(b"ol")
    one.add(b"pi")
    other.refill(one.contents)

    assert one.contents == b"pi"
    assert repr(other) == "<LineBuffer 2 of 10 bytes>"
    assert other.add(b"ng\nhal") == b"ping\n"
    assert other.rest() == b"hal"
    assert other.rest() == b""
    one.refill(b"\n")
    assert one.take() == b"\n"


@pytest.mark.parametrize(
    ("request_line", "changes"),
    [
        (b"ekey\n", True),
        (b"ekey:x\n", True),
        (b"init:ssl\n", True),
        (b"sethost:msul1:ekey\n", True),
        (bytearray(b"ekey\n"), True),
        (b"encrypt:ekey\n", True),
        (b"sethost:msul1:encrypt:ekey\n", True),
        (b"encrypt:sethost:msul1\n", True),
        (b"sethost:msul1:sethost:msul2:ping\n", True),
        (b"sethost\r:msul1\n", True),
        (b"\rsethost:msul1\n", True),
        (b"SetHost:msul1\n", True),
        (b"ek\rey\n", True),
        (b"encrypt:encrypt:ekey\n", True),
        (b"enc:4:0123456789abcdef\n", True),
        (b"exit\n", True),
        (b"encrypt:eget\n", False),
        (b"eget:ekey\n", False),
        (b"sethost:ekey\n", True),
        (b"ping\n", False),
        (b"\n", False),
    ],
)
def test_requests_that_change_the_session_are_recognised(
    request_line: bytes, changes: bool
) -> None:
    """In any spelling and after prefixes; all of these begin with a byte of SPECIAL_FIRST."""
    start, _ = text_part(request_line)
    assert changes_session(request_line, start) is changes
    assert not changes or request_line[0] in SPECIAL_FIRST
