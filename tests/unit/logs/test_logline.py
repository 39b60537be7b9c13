# SPDX-License-Identifier: GPL-2.0-or-later
"""The shape of a log event, without a writer (contract.md, "Log events")."""

from __future__ import annotations

import enum
import errno
import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lonc_gevent.errors import ChallengeFailedError
from lonc_gevent.logs.line import (
    MAX_FRAMES,
    MAX_LINE,
    console_line,
    described,
    ecs_line,
    error_fields,
    json_line,
)

TIME = "2026-11-24T06:56:12.000001Z"
CANARY = "canary-payload"

texts = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs as well
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.binary()
    | st.just("\x00" * 5000)
    | st.just("é" * 3000)
    | st.just(b"\xff" * 300)
    | st.just(10**4000)
    | st.just(-(2**64))
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(texts | st.integers() | st.binary(), inner, max_size=6)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


class Colour(enum.Enum):
    """An enum as a field's value may be one."""

    RED = "red"


class Hostile:
    """Cannot be made a text of."""

    def __str__(self) -> str:
        raise RuntimeError(CANARY)


def parsed(**fields: Any) -> dict[str, Any]:
    """Make an event of the fields and read it back."""
    event: dict[str, Any] = json.loads(json_line(TIME, "info", "tried", fields))
    return event


def test_keys_come_in_order() -> None:
    """`timestamp`, `level`, `event` come first, then the fields as given."""
    line = json_line(TIME, "info", "request_done", {"host": "msul1", "verb": b"ping", "a": 1})

    expected: dict[str, object] = {"timestamp": TIME, "level": "info", "event": "request_done"}
    expected |= {"host": "msul1", "verb": "ping", "a": 1}
    assert list(expected.items()) == list(json.loads(line).items())
    assert line.endswith(b"}\n")


def test_none_is_left_out_and_taken_names_are_not_overwritten() -> None:
    """A field without a value is not shown, and no field can pass for the head of the line."""
    event = parsed(host=None, timestamp="never", level="silly", truncated="no")

    assert event == {"timestamp": TIME, "level": "info", "event": "tried"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"caf\xc3\xa9 \xff", "café \\xff"),
        (bytearray(b"x"), "x"),
        ("\ud800", "\\ud800"),
        (float("nan"), None),
        (float("inf"), None),
        (2**64 - 1, 2**64 - 1),
        (1 << 15_000, "0x1" + "0" * 3750),  # more digits than Python turns into text
        (Colour.RED, "red"),
        (object, "<class 'object'>"),
        (Hostile(), "<Hostile>"),
        ([b"a", (1, None)], ["a", [1, None]]),
        ({1: b"a", b"k": Hostile()}, {"1": "a", "k": "<Hostile>"}),
        (ValueError(CANARY), "ValueError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_value(value: object, shown: object) -> None:
    """Each kind of value has its JSON form, and one without it is shown as text."""
    assert parsed(a=value)["a"] == shown


def test_names_of_the_other_schema_are_cut_as_all_others() -> None:
    """A field that has a name of ECS's is no head of the line, and may be cut."""
    line = json_line(TIME, "info", "tried", {"@timestamp": "\0" * 4096, "kept": 1})

    assert len(line) <= MAX_LINE
    assert json.loads(line)["kept"] == 1


@given(st.dictionaries(texts, values, max_size=8), texts)
def test_every_line_is_json_and_not_too_long(fields: dict[str, Any], name: str) -> None:
    """Whatever is logged, the line is one line of JSON, headed right, of at most 4096 bytes."""
    line = json_line(TIME, "info", name, fields)

    assert len(line) <= MAX_LINE
    assert line.index(b"\n") == len(line) - 1
    event = json.loads(line.decode("utf-8"))
    assert list(event)[:3] == ["timestamp", "level", "event"]


@given(st.dictionaries(texts, values, max_size=8), texts)
def test_every_console_line_is_one_short_line(fields: dict[str, Any], name: str) -> None:
    """A value can neither break a line for people nor put control characters into it."""
    line = console_line(
        TIME,
        "info",
        name,
        fields,
        lambda shape: " ".join(map("{}={}".format, *zip(*shape.items(), strict=True))),
    )

    assert len(line) <= MAX_LINE
    assert line[:-1].decode("utf-8").isprintable()


@pytest.mark.parametrize("size", [3000, 4096, 4097, 100_000])
@pytest.mark.parametrize("char", ["x", "\x00", "é", '"'])
def test_the_longest_value_is_shortened(size: int, char: str) -> None:
    """A long text is cut so that the line is nearly full, and short fields stay as they are."""
    line = json_line(TIME, "info", "tried", {"host": "msul1", "text": char * size, "n": 5})
    event = json.loads(line)

    assert (event["host"], event["n"]) == ("msul1", 5)
    if event["text"] != char * size:
        assert event["truncated"] is True
        assert event["text"].rstrip(".") == char * (len(event["text"]) - 3)
        assert MAX_LINE - 64 <= len(line) <= MAX_LINE
    assert (event["text"] == char * size) == (size == 3000 and char == "x")


def test_a_line_of_exactly_4096_bytes_stays() -> None:
    """The limit itself is allowed, and one byte more is not."""
    room = MAX_LINE - len(json_line(TIME, "info", "tried", {"text": ""}))
    longest = json_line(TIME, "info", "tried", {"text": "x" * room})
    longer = json_line(TIME, "info", "tried", {"text": "x" * (room + 1)})

    assert (len(longest), b"truncated" in longest) == (MAX_LINE, False)
    assert (len(longer) <= MAX_LINE, b"truncated" in longer) == (True, True)


def test_cut_bytes_and_collections_say_so() -> None:
    """What is left out of bytes, lists and depths is not left out silently."""
    nested: list[Any] = []
    nested.append(nested)

    assert parsed(a=b"x" * 257)["a"] == "x" * 256 + "..."
    for value in (b"x" * 257, list(range(65)), nested, {"a": ["x" * 513]}):
        assert parsed(a=value)["truncated"] is True
    assert "truncated" not in parsed(a=b"x" * 256, b=list(range(64)))


@pytest.mark.parametrize(
    ("name", "shown"), [("x" * 65, "x" * 64), (b"ready", "ready"), (Hostile(), "<Hostile>")]
)
def test_an_odd_event_name_is_mended(name: Any, shown: str) -> None:
    """A name that is too long or no text does not keep an event from coming out."""
    event = json.loads(json_line(TIME, "info", name, {}))

    assert (event["event"], event["truncated"]) == (shown, True)


def test_too_many_fields_still_make_a_line() -> None:
    """Fields that cannot all be shown are left out until the line fits."""
    line = json_line(TIME, "info", "tried", {f"field{i}": i for i in range(1000)})

    assert len(line) <= MAX_LINE
    assert json.loads(line)["truncated"] is True


def test_only_texts_of_known_origin_are_shown() -> None:
    """Our own and the system's words are shown; another exception's text never is."""
    refused = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED), CANARY)

    assert described(refused) == "ConnectionRefusedError: Connection refused"
    assert described(ChallengeFailedError("not ok")) == "ChallengeFailedError: not ok"
    assert described(OSError(errno.EIO, CANARY)) == "OSError"
    assert described(OSError(CANARY)) == "OSError"
    assert described(KeyError(CANARY)) == "KeyError"
    assert CANARY not in str(error_fields(KeyError(CANARY)))


def test_where_is_innermost_first_and_bounded() -> None:
    """The place that raised comes first, and a deep recursion does not fill the line."""

    def deeper(levels: int) -> None:
        if not levels:
            raise KeyError(CANARY)
        deeper(levels - 1)

    with pytest.raises(KeyError) as caught:
        deeper(20)
    fields = error_fields(caught.value)

    assert len(fields["where"]) == MAX_FRAMES
    assert fields["where"][0].startswith("test_logline.py:")
    assert fields["where"][0].endswith(" deeper")
    line = deeper.__code__.co_firstlineno + 2
    assert fields["where"][0].split()[0] == f"test_logline.py:{line}"


def test_a_cause_is_named() -> None:
    """An exception that was raised from another one names that one's type."""
    error = ChallengeFailedError("not ok")
    error.__cause__ = KeyError(CANARY)

    assert error_fields(error) == {"error": "ChallengeFailedError: not ok", "cause": "KeyError"}
    assert error_fields(None) == {}


@given(fields=st.dictionaries(texts, scalars, max_size=8))
def test_ecs_lines_keep_the_same_rules(fields: dict[str, Any]) -> None:
    """In the names of the Elastic Common Schema, too, a line is whole, short and in order."""
    line = ecs_line(TIME, "info", "transaction", fields)

    assert len(line) <= MAX_LINE
    assert line.count(b"\n") == 1
    shape = json.loads(line)
    assert list(shape)[:3] == ["@timestamp", "log.level", "event.action"]
    assert (shape["log.level"], shape["event.action"]) == ("info", "transaction")
