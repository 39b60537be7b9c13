# SPDX-License-Identifier: GPL-2.0-or-later
"""The session key and the `enc:` lines, against protocol.md, section 4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lonc_gevent.errors import BadSealedReplyError
from lonc_gevent.protocol.cipher import PIECE, Cipher, session_key

KEY = bytes.fromhex("6245172c55148213a0eaf00000bca790")
KEYS = st.binary(min_size=16, max_size=16)
PAYLOADS = st.binary(max_size=200).map(lambda payload: payload.replace(b"\n", b" "))

# Crypt-IDEA's own vectors: key, clear block, sealed block.
VECTORS = [
    ("00010002000300040005000600070008", "0000000100020003", "11fbed2b01986de5"),
    ("00010002000300040005000600070008", "0102030405060708", "540e5fea18c2f8b1"),
    ("3a984e2000195db32ee501c8c47cea60", "0102030405060708", "97bcd8200780da86"),
    ("9d4075c103bc322afb03e7be6ab30006", "0808080808080808", "f5db1ac45e5ef9f9"),
]

WORKED = [
    (b"auth:msu:smith:secret", b"enc:21:76866955b8aec692832f58f0d9ba24497dc7385e79ce0c06"),
    (b"12345678", b"enc:8:c9bb299cfca555808fc814b97d1744d9"),
    (b"ping", b"enc:4:857d0cb0e06dcedc"),
    (b"", b"enc:0:8fc814b97d1744d9"),
]


@pytest.mark.parametrize(("key", "clear", "sealed"), VECTORS)
def test_published_idea_vectors(key: str, clear: str, sealed: str) -> None:
    """Each vector holds in both directions."""
    cipher = Cipher(bytes.fromhex(key))

    line = cipher.seal(bytes.fromhex(clear))

    assert line.startswith(b"enc:8:" + sealed.encode())
    assert bytes.fromhex(clear) == cipher.open(b"enc:8:" + sealed.encode())


def test_the_key_of_the_worked_example() -> None:
    assert session_key("msul1", "nscll1", b"48213A0EAF00000BCA790BA07734") == KEY


@pytest.mark.parametrize(("payload", "line"), WORKED)
def test_the_lines_of_the_worked_example(payload: bytes, line: bytes) -> None:
    assert Cipher(KEY).seal(payload) == line
    assert Cipher(KEY).open(line) == payload


def test_ids_with_dash_and_underscore_give_the_key_of_perl() -> None:
    key = session_key("msu-l1", "s10_l2", b"5A0")

    assert key.hex() == "624d51210f525a0624d51210f525a062"
    assert Cipher(key).seal(b"ping") == b"enc:4:e38d568593f39657"


@pytest.mark.parametrize(
    ("server", "client", "build_key", "key"),
    [
        ("a", "b", b"1", "ab1ab1ab100000000000000000000000"),  # too short: filled with zeros
        ("A.b", "-_", b"\xe9g~", "aebdf90eaebdf90eaebdf90e00000000"),
        ("gp", "qz", b"G", "0909009090090900000000000000000" + "0"),  # the build key is not mapped
    ],
)
def test_characters_that_are_not_hex_are_packed_as_in_perl(
    server: str, client: str, build_key: bytes, key: str
) -> None:
    """Their low nibble counts; missing digits are zeros."""
    assert session_key(server, client, build_key).hex() == key


def test_swapped_ids_give_another_key() -> None:
    assert session_key("msul1", "nscll1", b"5A0") != session_key("nscll1", "msul1", b"5A0")


def test_an_empty_build_key_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        session_key("msul1", "nscll1", b"")


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    """The error does not show the key."""
    with pytest.raises(ValueError, match=f"a key of {size} bytes, expected 16"):
        Cipher(b"k" * size)


@given(key=KEYS, payload=PAYLOADS)
def test_a_sealed_payload_opens_to_the_same_bytes(key: bytes, payload: bytes) -> None:
    """With the same cipher object and with another one."""
    cipher = Cipher(key)
    line = cipher.seal(payload)

    assert payload == cipher.open(line) == Cipher(key).open(line)


@given(key=KEYS, payloads=st.lists(PAYLOADS, max_size=5))
def test_a_used_cipher_works_like_a_new_one(key: bytes, payloads: list[bytes]) -> None:
    """After sealing and opening other lines, invalid ones included."""
    cipher = Cipher(key)
    for payload in payloads:
        cipher.seal(payload)
        with pytest.raises(BadSealedReplyError):
            cipher.open(b"enc:1:00112233445566zz")

    assert cipher.seal(b"ping") == Cipher(key).seal(b"ping")


@pytest.mark.parametrize(
    "size", [0, 1, 7, 8, 9, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE - 8, 3 * PIECE, 3 * PIECE + 5]
)
def test_joined_pieces_are_the_whole_line(size: int) -> None:
    """Sealed and opened; no piece is longer than its slice."""
    cipher = Cipher(KEY)
    payload = bytes(range(11, 256)) * (size // 245 + 1)
    payload = payload[:size]

    sealed = list(cipher.seal_pieces(payload))
    opened = list(cipher.open_pieces(b"".join(sealed)))

    assert b"".join(sealed) == cipher.seal(payload)
    assert b"".join(opened) == payload
    assert max(map(len, sealed)) <= 2 * PIECE + 16
    assert max(map(len, opened)) <= PIECE


@pytest.mark.parametrize("size", [8, 16, PIECE])
def test_a_line_without_the_extra_block_is_opened(size: int) -> None:
    """Some senders add no block of padding to a multiple of eight bytes."""
    cipher = Cipher(KEY)
    line = cipher.seal(b"x" * size)[:-16]

    assert cipher.open(line) == b"x" * size
    assert b"".join(cipher.open_pieces(line)) == b"x" * size


def test_an_empty_text_may_have_no_block() -> None:
    assert Cipher(KEY).open(b"enc:0:") == b""


def test_upper_case_hex_digits_are_accepted() -> None:
    assert Cipher(KEY).open(b"enc:4:857D0CB0E06DCEDC") == b"ping"


BLOCK = b"857d0cb0e06dcedc"
NONSENSE = [
    b"",
    b"ping",
    b"enc",
    b"enc:",
    b"enc::",
    b"enc:4",
    b"enc:4:",
    b"enc::" + BLOCK,
    b"enc:" + BLOCK,
    b"ENC:4:" + BLOCK,
    b" enc:4:" + BLOCK,
    b"enc: 4:" + BLOCK,
    b"enc:4 :" + BLOCK,
    b"enc:+4:" + BLOCK,
    b"enc:-4:" + BLOCK,
    b"enc:-0:" + BLOCK,
    b"enc:04:" + BLOCK,
    b"enc:00:" + BLOCK,
    b"enc:0x4:" + BLOCK,
    b"enc:4.0:" + BLOCK,
    b"enc:1_0:" + 2 * BLOCK,
    b"enc:\xd9\xa4:" + BLOCK,  # an Arabic four
    b"enc:\xb2:" + BLOCK,  # a small two in Latin-1
    b"enc:99999999999:" + BLOCK,
    b"enc:" + b"9" * 5000 + b":" + BLOCK,
    b"enc:0:" + 2 * BLOCK,
    b"enc:8:" + 3 * BLOCK,
    b"enc:4:" + 2 * BLOCK,
    b"enc:9:" + BLOCK,
    b"enc:17:" + 2 * BLOCK,
    b"enc:4:" + BLOCK[:-1],
    b"enc:4:" + BLOCK + b"0",
    b"enc:4:" + BLOCK + b"\n",
    b"enc:4:" + BLOCK + b":",
    b"enc:4::" + BLOCK[1:],
    b"enc:4:" + BLOCK[:-1] + b"g",
    b"enc:4:" + BLOCK[:-1] + b" ",
    b"enc:4:" + BLOCK[:-1] + b"\n",
    b"enc:4:0x" + BLOCK[2:],
    b"enc:4:" + b"\xff" * 16,
]


@pytest.mark.parametrize("line", NONSENSE)
def test_invalid_lines_raise_bad_sealed_reply(line: bytes) -> None:
    """Opened whole and in pieces."""
    with pytest.raises(BadSealedReplyError):
        Cipher(KEY).open(line)
    with pytest.raises(BadSealedReplyError):
        list(Cipher(KEY).open_pieces(line))


@given(line=st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: b"enc:" + rest))
def test_random_lines_raise_no_other_error(line: bytes) -> None:
    """A line is opened or raises BadSealedReplyError, which shows no part of it."""
    shown: BaseException | None = None
    try:
        Cipher(KEY).open(line)
    except BadSealedReplyError as error:
        shown = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert shown is None


def test_an_invalid_digit_is_found_when_its_piece_is_opened() -> None:
    line = bytearray(Cipher(KEY).seal(b"x" * (2 * PIECE)))
    line[-20] = ord("g")
    pieces = Cipher(KEY).open_pieces(bytes(line))

    assert next(pieces) == b"x" * PIECE
    with pytest.raises(BadSealedReplyError, match="hex"):
        list(pieces)


def test_a_text_of_two_lines_is_refused() -> None:
    """A newline inside would give the client two lines for one request."""
    cipher = Cipher(KEY)

    with pytest.raises(BadSealedReplyError, match="more than one line"):
        cipher.open(cipher.seal(b"ok\nok"))


def test_the_padding_is_ignored() -> None:
    cipher = Cipher(KEY)
    line = cipher.seal(b"ping\n\n\n")

    assert cipher.open(line.replace(b"enc:7:", b"enc:4:")) == b"ping"


def test_the_repr_shows_no_key() -> None:
    assert repr(Cipher(KEY)) == "<Cipher>"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"5:00", "a line that does not start with enc:"),
        (b"enc:x:00", "an enc: line without a valid LENGTH"),
        (b"enc::0123456789abcdef", "an enc: line without a valid LENGTH"),
        (b"enc:05:0123456789abcdef", "an enc: line without a valid LENGTH"),
        (b"enc:-1:", "an enc: line without a valid LENGTH"),
        (b"enc:+5:0123456789abcdef", "an enc: line without a valid LENGTH"),
        (b"enc:1_0:" + 32 * b"0", "an enc: line without a valid LENGTH"),
        (b"enc: 5:0123456789abcdef", "an enc: line without a valid LENGTH"),
        (b"enc:00000000005:0123456789abcdef", "an enc: line without a valid LENGTH"),
        (b"enc:5", "an enc: line without a valid LENGTH"),
        (b"encrypted:5:0123456789abcdef", "a line that does not start with enc:"),
        (b"enc", "an enc: line without a valid LENGTH"),
        (b"enc:50:0123456789abcdef", "an enc: line whose LENGTH does not fit its hex digits"),
        (b"enc:5:0123456789abcde", "an enc: line whose LENGTH does not fit its hex digits"),
        (b"enc:5:0123456789abcdeg", "an enc: line with characters that are not hex digits"),
    ],
)
def test_the_error_for_an_invalid_line_shows_no_part_of_it(line: bytes, words: str) -> None:
    with pytest.raises(BadSealedReplyError) as caught:
        Cipher(bytes(16)).open(line)

    assert str(caught.value) == words


def test_a_second_colon_is_not_a_hex_digit() -> None:
    with pytest.raises(BadSealedReplyError, match="not hex digits"):
        Cipher(bytes(16)).open(b"enc:5:01234567:9abcdef")


def test_ids_that_are_not_utf8_give_a_key() -> None:
    """Their bytes count."""
    assert session_key("a\udcff", "b", b"1") == session_key("a\udcff", "b", b"1")
    assert len(session_key("a\udcff", "b", b"1")) == 16


def test_a_short_key_is_padded_with_zeros() -> None:
    assert session_key("a", "b", b"1").hex() == "ab1ab1ab1" + "0" * 23
