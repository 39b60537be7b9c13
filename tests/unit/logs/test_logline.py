# SPDX-License-Identifier: GPL-2.0-or-later
"""Log events as lines, without a writer (contract.md, "Log events")."""

from __future__ import annotations

import enum
import errno
import json
import os
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lonc_gevent.errors import ChallengeFailedError
from lonc_gevent.logs import _console
from lonc_gevent.logs.line import (
    MAX_FRAMES,
    MAX_LINE,
    bounded_line,
    ecs_line,
    error_fields,
    error_text,
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
    | st.just("\x00" * 800)
    | st.just("é" * 2100)
    | st.just(b"\xff" * 300)
    | st.just(10**400)
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
    """An enum as the value of a field."""

    RED = "red"


@dataclass
class Secretive:
    """An object with a field that its `repr` leaves out."""

    key: str = field(repr=False)


class Hostile:
    """An object whose `str` raises."""

    def __str__(self) -> str:
        raise RuntimeError(CANARY)


def line_of(fields: dict[str, Any], name: Any = "tried", render: Any = json_line) -> bytes:
    """Render an event with these fields."""
    return bounded_line({**fields, "event": name, "level": "info", "timestamp": TIME}, render)


def parsed(**fields: Any) -> dict[str, Any]:
    """Render an event with these fields and parse it."""
    event: dict[str, Any] = json.loads(line_of(fields))
    return event


def test_keys_come_in_order() -> None:
    """`timestamp`, `level`, `event` come first, then the fields as given."""
    line = line_of({"host": "msul1", "verb": b"ping", "a": 1}, "request_done")

    expected: dict[str, object] = {"timestamp": TIME, "level": "info", "event": "request_done"}
    expected |= {"host": "msul1", "verb": "ping", "a": 1}
    assert list(expected.items()) == list(json.loads(line).items())
    assert line.endswith(b"}\n")


def test_none_is_left_out() -> None:
    assert parsed(host=None) == {"timestamp": TIME, "level": "info", "event": "tried"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"caf\xc3\xa9 \xff", "café \\xff"),
        ("\ud800", "\\ud800"),
        (["\udcff"], ["\\udcff"]),
        (float("nan"), None),
        (float("inf"), None),
        (2**64 - 1, 2**64 - 1),
        (Colour.RED, "red"),
        (object, "<class 'object'>"),
        (Hostile(), "<Hostile>"),
        (Secretive(CANARY), "Secretive()"),
        ([b"a", (1, None)], ["a", [1, None]]),
        ({1: b"a", b"k": Hostile()}, {"1": "a", "k": "<Hostile>"}),
        (ValueError(CANARY), "ValueError"),
        ([ValueError(CANARY)], ["ValueError"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_type_of_value_has_a_form_in_json(value: object, shown: object) -> None:
    event = parsed(a=value)

    assert event["a"] == shown
    assert "truncated" not in event


@given(st.dictionaries(texts, values, max_size=8), texts)
def test_every_line_is_bounded_json(fields: dict[str, Any], name: str) -> None:
    """Any event is one line of JSON of at most MAX_LINE bytes, with its head first."""
    line = line_of(fields, name)

    assert len(line) <= MAX_LINE
    assert line.index(b"\n") == len(line) - 1
    event = json.loads(line.decode("utf-8"))
    assert list(event)[:3] == ["timestamp", "level", "event"]


@given(st.dictionaries(texts, scalars, max_size=8))
def test_every_ecs_line_is_bounded_json(fields: dict[str, Any]) -> None:
    """In the names of the Elastic Common Schema, too, a line is whole, short and in order."""
    line = line_of(fields, "transaction", ecs_line)

    assert len(line) <= MAX_LINE
    assert line.count(b"\n") == 1
    event = json.loads(line)
    assert list(event)[:3] == ["@timestamp", "log.level", "event.action"]
    assert (event["log.level"], event["event.action"]) == ("info", "transaction")


@given(st.dictionaries(st.sampled_from(["host", "text"]), values))
def test_every_console_line_is_bounded_and_printable(fields: dict[str, Any]) -> None:
    """A value can neither break a line for people nor put control characters into it."""
    line = line_of(fields, render=_console(-1))

    assert len(line) <= MAX_LINE
    assert line[:-1].decode("utf-8").isprintable()


@pytest.mark.parametrize("size", [3000, 4096, 4097, 100_000])
@pytest.mark.parametrize("char", ["x", "\x00", "é", '"'])
def test_a_long_text_is_cut_and_short_fields_stay(size: int, char: str) -> None:
    event = parsed(host="msul1", text=char * size, n=5)

    assert (event["host"], event["n"]) == ("msul1", 5)
    if event["text"] != char * size:
        assert event["truncated"] is True
        assert event["text"].rstrip(".") == char * (len(event["text"]) - 3)
        assert len(event["text"]) >= 512
    assert (event["text"] == char * size) == (size == 3000 and char == "x")


def test_a_line_of_max_line_bytes_is_not_cut() -> None:
    """The limit itself is allowed, and one byte more is not."""
    room = MAX_LINE - len(line_of({"text": ""}))
    longest, longer = line_of({"text": "x" * room}), line_of({"text": "x" * (room + 1)})

    assert (len(longest), b"truncated" in longest) == (MAX_LINE, False)
    assert (len(longer) <= MAX_LINE, b"truncated" in longer) == (True, True)


def nested() -> list[Any]:
    """Return a list that contains itself."""
    outer: list[Any] = []
    outer.append(outer)
    return outer


@pytest.mark.parametrize(
    "fields",
    [{f"field{i}": i for i in range(1000)}, {"a": nested()}, {"a": 10**5000}],
    ids=["too many", "cyclic", "too large"],
)
def test_an_event_that_cannot_be_shown_keeps_its_head(fields: dict[str, Any]) -> None:
    event = json.loads(line_of(fields))

    assert event == {"timestamp": TIME, "level": "info", "event": "tried", "truncated": True}


def test_only_texts_of_known_origin_are_logged() -> None:
    """Texts of this package and of the system are logged; another exception's text never is."""
    refused = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED), CANARY)

    assert error_text(refused) == "ConnectionRefusedError: Connection refused"
    assert error_text(ChallengeFailedError("not ok")) == "ChallengeFailedError: not ok"
    assert error_text(OSError(errno.EIO, CANARY)) == "OSError"
    assert error_text(OSError(CANARY)) == "OSError"
    assert error_text(KeyError(CANARY)) == "KeyError"
    assert CANARY not in str(error_fields(KeyError(CANARY)))


def test_where_is_innermost_first_and_bounded() -> None:

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
    error = ChallengeFailedError("not ok")
    error.__cause__ = KeyError(CANARY)

    assert error_fields(error) == {"error": "ChallengeFailedError: not ok", "cause": "KeyError"}
    assert error_fields(None) == {}
