# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests built of their parts, and replies taken apart."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lonc_gevent.client import (
    ArgumentError,
    ClientError,
    ReplyError,
    command,
    escape,
    freeze,
    parse_list,
    parse_pairs,
    raise_for_error,
    thaw,
    unescape,
    unpack,
    unpack_list,
)

if TYPE_CHECKING:
    from lonc_gevent.client.commands import Nested, Part

MARKS = ["", ":", "&", "=", "%", "%3a", "\n", "_", "__END_HASH_REF__", "__HASH_REF__", "__FROZEN__"]
texts = st.lists(st.text() | st.sampled_from(MARKS), max_size=4).map("".join)
nested = st.recursive(
    texts,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(texts, values, max_size=4),
    max_leaves=20,
)


def test_a_command_escapes_each_part() -> None:
    request = command("put", "msu", b"a\xff", 7, {"first name": "A&B", "n": 1.5}, ["a:b", "c"])

    assert request == b"put:msu:a%ff:7:first%20name=A%26B&n=1%2e5:a%3ab&c"
    assert command("ping") == b"ping"
    assert command("get", "msu", "a.b-c@d", "../x") == b"get:msu:a.b-c@d:..%2fx"


@settings(deadline=None)
@given(st.lists(texts, max_size=4), st.lists(texts, min_size=1), st.dictionaries(texts, texts))
def test_no_text_changes_the_shape_of_a_request(
    fields: list[str], items: list[str], pairs: dict[str, str]
) -> None:
    verb, *parts = command("get", *fields, items, pairs).split(b":")

    assert verb == b"get"
    assert [unescape(part) for part in parts[:-2]] == [text.encode() for text in fields]
    if items != [""]:  # a list of one empty item looks like an empty list
        assert unpack_list(parts[-2]) == [text.encode() for text in items]
    assert unpack(parts[-1]) == {k.encode(): v.encode() for k, v in pairs.items() if k or v} | (
        {b"": b""} if "" in pairs and not pairs[""] else {}
    )


@pytest.mark.parametrize(
    ("verb", "parts"),
    [
        ("", ()),
        ("get:x", ()),
        ("g\n", ()),
        ("sethost:x", ()),
        (b"get", ()),
        ("get", (None,)),
        ("get", ([None],)),
        ("get", ({"a": ["b"]},)),
    ],
)
def test_parts_that_cannot_be_sent_are_argument_errors(verb: Any, parts: tuple[Part, ...]) -> None:
    with pytest.raises(ArgumentError) as caught:
        command(verb, *parts)

    assert isinstance(caught.value, (ValueError, ClientError))


def test_replies_are_parsed_to_text() -> None:
    assert parse_pairs(b"first%20name=Ada&x=%ff&y") == {"first name": "Ada", "x": "\ufffd", "y": ""}
    assert parse_list(b"a%26b&&%c3%a9") == ["a&b", "", "\u00e9"]
    with pytest.raises(UnicodeDecodeError):
        parse_list(b"%ff", errors="strict")


def test_frozen_values_have_lonnets_form() -> None:
    """Written here by hand, as lonnet's hashref2str does it."""
    value: Nested = {"a b": ["1", {"c": "x&y"}], "d": ""}

    assert freeze(value) == (
        b"__HASH_REF__a%20b=__ARRAY_REF__1&__HASH_REF__c=x%26y__END_HASH_REF__"
        b"__END_ARRAY_REF__&d=__END_HASH_REF__"
    )


@settings(deadline=None)
@given(nested)
def test_thaw_undoes_freeze(value: Nested) -> None:
    assert thaw(freeze(value)) == value
    assert thaw(unescape(command("x", freeze(value)).split(b":")[1])) == value


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([b"__HASH_REF__", b"__END_HASH_REF__", b"__ARRAY_REF__"])
        | st.sampled_from([b"__END_ARRAY_REF__", b"a", b"=", b"&", b"%", b"_"])
    ).map(b"".join)
)
def test_thaw_of_any_bytes_ends(data: bytes) -> None:
    """Returns a value or raises ArgumentError."""
    try:
        thaw(data)
    except ArgumentError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"__HASH_REF__a",
        b"__HASH_REF__a=b",
        b"__ARRAY_REF__a&b",
        b"__ARRAY_REF__a__END_HASH_REF__",
        b"a&b",
        b"__ARRAY_REF__" * 10_000,
    ],
)
def test_thaw_refuses_another_form(data: bytes) -> None:
    with pytest.raises(ArgumentError):
        thaw(data)


@pytest.mark.parametrize(
    ("answer", "word", "detail", "may_have_run"),
    [
        (b"error:2 tie(GDBM) failed", "error", "2 tie(GDBM) failed", None),
        (b"error", "error", "", None),
        (b"refused", "refused", "", False),
        (b"rejected", "rejected", "", False),
        (b"unknown_cmd", "unknown_cmd", "", False),
        (b"unable_to_set", "unable_to_set", "", False),
        (b"no_such_user", "no_such_user", "", False),
    ],
)
def test_error_replies_raise_reply_error(
    answer: bytes, word: str, detail: str, *, may_have_run: bool | None
) -> None:
    """No text of the error shows the detail, which may hold data."""
    with pytest.raises(ReplyError) as caught:
        raise_for_error(answer, "msul2", "/s/msul2")

    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (error.word, error.detail, error.may_have_run) == (word, detail, may_have_run)
    assert (error.host, str(error)) == ("msul2", f"msul2: the reply is {word}")
    assert "GDBM" not in f"{error!r} {error}"


@pytest.mark.parametrize("answer", [b"", b"ok", b"errors:1", b"refused_by=x", b"con_delayed", b"1"])
def test_other_replies_are_returned(answer: bytes) -> None:
    assert raise_for_error(answer) is answer


def test_escape_leaves_letters_digits_and_underscores() -> None:
    assert escape("aZ0_-\u00e9") == b"aZ0_%2d%c3%a9"
