# SPDX-License-Identifier: GPL-2.0-or-later
"""LON-CAPA's `%XX`, `&` and `=` (protocol.md, section 2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lonc_gevent.client import escape, pack, unescape, unpack, unpack_list


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("plain_Text09", b"plain_Text09"),
        ("a b:c&d=e\n", b"a%20b%3ac%26d%3de%0a"),
        ("é", b"%c3%a9"),
        (b"\x00\xff%", b"%00%ff%25"),
        (-1.5, b"%2d1%2e5"),
        ("", b""),
    ],
)
def test_escape_keeps_letters_digits_and_underscore(
    value: str | bytes | float, escaped: bytes
) -> None:
    """Other bytes become `%` and two hex digits, as in lonnet."""
    assert escape(value) == escaped


@given(st.binary())
def test_unescape_undoes_escape(data: bytes) -> None:
    """And escaped text has no byte with a meaning in a request."""
    escaped = escape(data)

    assert unescape(escaped) == data
    assert not set(escaped) & set(b"\n:&=")


def test_unescape_accepts_upper_case_and_a_single_percent() -> None:
    assert unescape(b"%3A%3a%zz%4") == b"::%zz%4"


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.binary()))
def test_unpack_undoes_pack(items: dict[str, bytes]) -> None:
    assert unpack(pack(items)) == {key.encode(): value for key, value in items.items()}


@given(st.lists(st.binary(), min_size=2))
def test_unpack_list_undoes_pack(items: list[bytes]) -> None:
    assert unpack_list(pack(items)) == items


def test_pack_refuses_a_single_string() -> None:
    with pytest.raises(TypeError, match="a mapping or a list, not str"):
        pack("abc")


def test_unpack_of_replies_without_values() -> None:
    """A pair without `=` has an empty value; an empty reply is an empty mapping."""
    assert unpack(b"a&b=1&") == {b"a": b"", b"b": b"1"}
    assert unpack(b"") == {}
    assert unpack_list(b"") == []
