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
def test_the_published_vectors(key: str, clear: str, sealed: str) -> None:
    """Each vector's block comes out as published, in both directions."""
    cipher = Cipher(bytes.fromhex(key))

    line = cipher.seal(bytes.fromhex(clear))

    assert line.startswith(b"enc:8:" + sealed.encode())
    assert bytes.fromhex(clear) == cipher.open(b"enc:8:" + sealed.encode())


def test_the_worked_key() -> None:
    """The worked example's ids and build key give its 16 bytes."""
    assert session_key("msul1", "nscll1", b"48213A0EAF00000BCA790BA07734") == KEY


@pytest.mark.parametrize(("payload", "line"), WORKED)
def test_the_worked_lines(payload: bytes, line: bytes) -> None:
    """The worked example's requests are sealed and opened as written there."""
    assert Cipher(KEY).seal(payload) == line
    assert Cipher(KEY).open(line) == payload


def test_the_worked_odd_ids() -> None:
    """Ids with `-` and `_` give the key that Perl's pack gives, and so the example's line."""
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
def test_perl_packs_what_is_no_hex(server: str, client: str, build_key: bytes, key: str) -> None:
    """Odd characters count by their low nibble, and what is missing counts as zero."""
    assert session_key(server, client, build_key).hex() == key


def test_the_order_of_the_ids_matters() -> None:
    """The server's id comes first: the same two ids the other way round give another key."""
    assert session_key("msul1", "nscll1", b"5A0") != session_key("nscll1", "msul1", b"5A0")


def test_an_empty_build_key_is_refused() -> None:
    """Without a build key there is no key."""
    with pytest.raises(ValueError, match="empty"):
        session_key("msul1", "nscll1", b"")


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_key_has_sixteen_bytes(size: int) -> None:
    """A key of any other size is refused, and not shown."""
    with pytest.raises(ValueError, match=f"a key of {size} bytes, expected 16"):
        Cipher(b"k" * size)


@given(key=KEYS, payload=PAYLOADS)
def test_round_trip(key: bytes, payload: bytes) -> None:
    """What was sealed opens to the same bytes, with the same and with another object."""
    cipher = Cipher(key)
    line = cipher.seal(payload)

    assert payload == cipher.open(line) == Cipher(key).open(line)


@given(key=KEYS, payloads=st.lists(PAYLOADS, max_size=5))
def test_messages_do_not_touch_each_other(key: bytes, payloads: list[bytes]) -> None:
    """A cipher that has sealed and opened other lines, bad ones too, works like a new one."""
    cipher = Cipher(key)
    for payload in payloads:
        cipher.seal(payload)
        with pytest.raises(BadSealedReplyError):
            cipher.open(b"enc:1:00112233445566zz")

    assert cipher.seal(b"ping") == Cipher(key).seal(b"ping")


@pytest.mark.parametrize(
    "size", [0, 1, 7, 8, 9, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE - 8, 3 * PIECE, 3 * PIECE + 5]
)
def test_pieces_make_the_whole(size: int) -> None:
    """Joined pieces are the line, and the payload again; none is longer than its slice."""
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
def test_a_sender_without_the_extra_block(size: int) -> None:
    """A multiple of eight without its block of blanks is opened too."""
    cipher = Cipher(KEY)
    line = cipher.seal(b"x" * size)[:-16]

    assert cipher.open(line) == b"x" * size
    assert b"".join(cipher.open_pieces(line)) == b"x" * size


def test_an_empty_text_in_no_block() -> None:
    """An empty text needs no block at all."""
    assert Cipher(KEY).open(b"enc:0:") == b""


def test_capital_digits_are_digits() -> None:
    """Hex digits in capitals are opened like small ones: Perl's pack makes no difference."""
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
def test_nonsense_is_refused(line: bytes) -> None:
    """A line that is not a proper `enc:` line raises the one error, whole and in pieces."""
    with pytest.raises(BadSealedReplyError):
        Cipher(KEY).open(line)
    with pytest.raises(BadSealedReplyError):
        list(Cipher(KEY).open_pieces(line))


@given(line=st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: b"enc:" + rest))
def test_rubbish_raises_nothing_else(line: bytes) -> None:
    """Whatever arrives either opens or raises BadSealedReplyError, which shows none of it."""
    shown: BaseException | None = None
    try:
        Cipher(KEY).open(line)
    except BadSealedReplyError as error:
        shown = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert shown is None


def test_a_bad_digit_far_along() -> None:
    """A bad digit in a later slice is found when that slice is opened."""
    line = bytearray(Cipher(KEY).seal(b"x" * (2 * PIECE)))
    line[-20] = ord("g")
    pieces = Cipher(KEY).open_pieces(bytes(line))

    assert next(pieces) == b"x" * PIECE
    with pytest.raises(BadSealedReplyError, match="hex"):
        list(pieces)


def test_a_text_of_two_lines_is_refused() -> None:
    """A newline inside would hand the client two lines for one request."""
    cipher = Cipher(KEY)

    with pytest.raises(BadSealedReplyError, match="more than one line"):
        cipher.open(cipher.seal(b"ok\nok"))


def test_blanks_after_the_length_may_be_anything() -> None:
    """Only LENGTH bytes count: what the padding decodes to is not looked at."""
    cipher = Cipher(KEY)
    line = cipher.seal(b"ping\n\n\n")

    assert cipher.open(line.replace(b"enc:7:", b"enc:4:")) == b"ping"


def test_the_repr_shows_no_key() -> None:
    """The repr of a cipher is its name alone."""
    assert repr(Cipher(KEY)) == "<Cipher>"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"5:00", "a line that does not start with enc:"),
        (b"enc:x:00", "an enc: line without a proper LENGTH"),
        (b"enc::0123456789abcdef", "an enc: line without a proper LENGTH"),
        (b"enc:05:0123456789abcdef", "an enc: line without a proper LENGTH"),
        (b"enc:-1:", "an enc: line without a proper LENGTH"),
        (b"enc:+5:0123456789abcdef", "an enc: line without a proper LENGTH"),
        (b"enc:1_0:" + 32 * b"0", "an enc: line without a proper LENGTH"),
        (b"enc: 5:0123456789abcdef", "an enc: line without a proper LENGTH"),
        (b"enc:00000000005:0123456789abcdef", "an enc: line without a proper LENGTH"),
        (b"enc:5", "an enc: line without a proper LENGTH"),
        (b"encrypted:5:0123456789abcdef", "a line that does not start with enc:"),
        (b"enc", "an enc: line without a proper LENGTH"),
        (b"enc:50:0123456789abcdef", "an enc: line whose LENGTH and hex digits do not fit"),
        (b"enc:5:0123456789abcde", "an enc: line whose LENGTH and hex digits do not fit"),
        (b"enc:5:0123456789abcdeg", "an enc: line with something other than hex digits"),
    ],
)
def test_the_words_for_a_bad_line(line: bytes, words: str) -> None:
    """What is wrong is said in whole, and nothing of the line with it."""
    with pytest.raises(BadSealedReplyError) as caught:
        Cipher(bytes(16)).open(line)

    assert str(caught.value) == words


def test_a_colon_in_the_digits_is_not_the_first_one() -> None:
    """LENGTH ends at the first colon; a second one is no hex digit."""
    with pytest.raises(BadSealedReplyError, match="than hex digits"):
        Cipher(bytes(16)).open(b"enc:5:01234567:9abcdef")


def test_ids_that_are_not_utf8_make_a_key() -> None:
    """Bytes of an id that are no UTF-8 count as they are."""
    assert session_key("a\udcff", "b", b"1") == session_key("a\udcff", "b", b"1")
    assert len(session_key("a\udcff", "b", b"1")) == 16


def test_a_short_key_is_filled_with_zeros() -> None:
    """Three times ids and build key, and where that is less than 32 digits, zeros."""
    assert session_key("a", "b", b"1").hex() == "ab1ab1ab1" + "0" * 23
