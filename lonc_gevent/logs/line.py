# SPDX-License-Identifier: GPL-2.0-or-later
"""The shape of a log event: values -> a JSON line, or a line for people.

Rules that hold for every line, whatever it is made of (contract.md, "Log events"):

1. `timestamp`, `level` and `event` come first, then the event's own fields in the order given.
   These names, and `truncated`, are taken: a field of the same name is left out.
2. It has at most `MAX_LINE` bytes with its newline, is UTF-8, and has no newline but the last one.
   What had to be shortened ends in "...", and the event then says `"truncated": true`.
3. It is made without raising: what cannot be said in JSON is said as text.
4. An exception is described by its type. Its text is shown only where we know who wrote it,
   for the text of another's exception may hold a payload.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lonc_gevent.errors import LoncError

from . import ecs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

MAX_LINE: Final = 4096  # bytes, newline included: PIPE_BUF, so that one line is one atomic write
MAX_TEXT: Final = 4096  # characters of a text, before the line is measured
MAX_BYTES: Final = 256  # of a bytes value
MAX_NAME: Final = 64  # characters of an event's name or of a field's
MAX_INNER: Final = 512  # characters of a text in a collection
MAX_ITEMS: Final = 64  # in a field's collections, all together
MAX_DEPTH: Final = 4  # collections in collections
MAX_FRAMES: Final = 8
MAX_INT_BITS: Final = 64  # a longer number is shown as hexadecimal text
MIN_TEXT: Final = (
    16  # bytes of JSON; a field that would have to become shorter than this is left out
)
_TAKEN: Final = frozenset({"timestamp", "level", "event", "truncated"})
_DOTS: Final = "..."

_encode = msgspec.json.Encoder().encode


# -- lines ------------------------------------------------------------------------------------


def json_line(timestamp: str, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
    """One event as a JSON line with its newline; `None` values are left out. Never raises."""
    try:
        line = _encode(shaped(timestamp, level, event, fields)) + b"\n"
        if len(line) <= MAX_LINE:
            return line
    except (ValueError, TypeError, RecursionError):
        # Half a surrogate pair, or a number with more digits than Python turns into text.
        pass
    return _fitted(_sanitised(shaped(timestamp, level, event, fields)), _TAKEN)


def ecs_line(timestamp: str, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
    """One event as a JSON line in the names of the Elastic Common Schema. Never raises."""
    # Rare enough to take the way that is safe for every value.
    shape = _sanitised(shaped(timestamp, level, event, fields))
    return _fitted(ecs.renamed(shape), ecs.TAKEN)


def console_line(
    timestamp: str,
    level: str,
    event: str,
    fields: Mapping[str, Any],
    render: Callable[[dict[str, Any]], str],
) -> bytes:
    """One event as a line for people, laid out by `render`. Never raises unless `render` does.

    Control characters are shown escaped, so that a value can neither break the line nor steer the
    terminal.
    """
    shown = {
        _escaped(name): _escaped(value) if isinstance(value, str) else value
        for name, value in _sanitised(shaped(timestamp, level, event, fields)).items()
    }
    line = render(shown).encode("utf-8", "backslashreplace")
    if len(line) >= MAX_LINE:
        # Cut between characters, as "ignore" drops the bytes of a halved one.
        kept = line[: MAX_LINE - 1 - len(_DOTS)].decode("utf-8", "ignore")
        line = (kept + _DOTS).encode()
    return line + b"\n"


def shaped(timestamp: str, level: str, event: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Put the event in its order, each value as something that JSON has. Never raises."""
    shape: dict[str, Any] = {"timestamp": timestamp, "level": level, "event": event}
    truncated = False
    for name, value in fields.items():
        kind = type(value)
        if value is None or name in _TAKEN:
            continue
        if kind is int or kind is float or kind is bool or (kind is str and len(value) <= MAX_TEXT):
            shape[name] = value
        elif kind is bytes and len(value) <= MAX_BYTES:
            shape[name] = value.decode("utf-8", "backslashreplace")
        else:
            plainly = _Plain()
            shape[name] = plainly(value)
            truncated = truncated or plainly.truncated
    if type(event) is not str or len(event) > MAX_NAME:
        shape["event"] = str(_Plain()(event))[:MAX_NAME]
        truncated = True
    if truncated:
        shape["truncated"] = True
    return shape


# -- values -----------------------------------------------------------------------------------


class _Plain:
    """Turns any value into one that JSON has, and remembers whether something was cut."""

    def __init__(self) -> None:
        self.truncated = False
        self._items = 0

    def __call__(self, value: Any, depth: int = 0) -> Any:
        try:
            return self._plain(value, depth)
        except Exception:  # noqa: BLE001 - a value's own __str__ or __iter__ may raise what it likes
            return f"<{type(value).__name__}>"

    def _plain(self, value: Any, depth: int) -> Any:  # noqa: PLR0911 - a table of kinds
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._cut(str.__str__(value), MAX_INNER if depth else MAX_TEXT)
        if isinstance(value, int):
            # Most readers of JSON lose digits long before that.
            small = value.bit_length() <= MAX_INT_BITS
            return int(value) if small else self._cut(hex(value), MAX_TEXT)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, bytes | bytearray | memoryview):
            self.truncated = self.truncated or len(value) > MAX_BYTES
            text = bytes(value[:MAX_BYTES]).decode("utf-8", "backslashreplace")
            return text + _DOTS if len(value) > MAX_BYTES else text
        if isinstance(value, enum.Enum):
            return self._plain(value.value, depth)
        if isinstance(value, BaseException):
            return described(value)
        if isinstance(value, Mapping | list | tuple | AbstractSet):
            return self._collection(value, depth)
        return self._cut(str(value), MAX_INNER if depth else MAX_TEXT)

    def _collection(self, value: Any, depth: int) -> Any:
        if depth >= MAX_DEPTH:
            self.truncated = True
            return _DOTS
        if isinstance(value, Mapping):
            return {
                self._cut(str(self(name, depth + 1)), MAX_NAME): self(item, depth + 1)
                for name, item in self._some(value.items())
            }
        return [self(item, depth + 1) for item in self._some(value)]

    def _some(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            if self._items >= MAX_ITEMS:
                self.truncated = True
                return
            self._items += 1
            yield item

    def _cut(self, text: str, most: int) -> str:
        if len(text) <= most:
            return text
        self.truncated = True
        return text[: most - len(_DOTS)] + _DOTS


def _sanitised(value: Any) -> Any:
    """Make the same shape of text that is UTF-8 for sure, and numbers that have a text."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sanitised(name)[:MAX_NAME]: _sanitised(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_sanitised(item) for item in value]
    return _Plain()(value)


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


# -- length -----------------------------------------------------------------------------------


def _fitted(shape: dict[str, Any], whole: AbstractSet[str]) -> bytes:
    """Encode the shape as a line that is not too long, its longest values cut until it fits.

    Those of `whole` are not cut. Each round halves the longest value at least, or takes away what
    is over; a field of which nothing useful would be left goes altogether. So it ends after few
    rounds.
    """
    line = _encode(shape) + b"\n"
    if len(line) <= MAX_LINE:
        return line
    shape["truncated"] = True
    sizes = {name: len(_encode(value)) for name, value in shape.items() if name not in whole}
    while len(line := _encode(shape) + b"\n") > MAX_LINE and sizes:
        longest = max(sizes, key=sizes.__getitem__)
        size = max(sizes[longest] - (len(line) - MAX_LINE), sizes[longest] // 2)
        if size < MIN_TEXT:
            del shape[longest], sizes[longest]
            continue
        value = shape[longest]
        text = value if isinstance(value, str) else _encode(value).decode()
        shape[longest] = _shortened(text, size)
        sizes[longest] = len(_encode(shape[longest]))
    return line


def _shortened(text: str, size: int) -> str:
    """Keep a beginning of the text, and "...": at most `size` bytes as JSON."""
    keep = min(len(text) - len(_DOTS), size)
    while (short := len(_encode(text[:keep] + _DOTS))) > size:
        keep = min(keep - 1, keep * size // short)
    return text[:keep] + _DOTS


# -- exceptions -------------------------------------------------------------------------------


def described(error: BaseException) -> str:
    """Name an exception's type; and its text, if it is one of ours or the system's own words.

    The text of anybody else's exception may hold a payload and is never shown.
    """
    name = type(error).__name__
    if isinstance(error, LoncError):
        return f"{name}: {error}"
    if isinstance(error, OSError) and isinstance(error.errno, int):
        text = os.strerror(error.errno)
        # Any code can put any text into an OSError: show it only if it is what the system says.
        if error.strerror == text:
            return f"{name}: {text}"
    return name


def error_fields(
    error: BaseException | None, trace: TracebackType | None = None
) -> dict[str, str | list[str]]:
    """Fields for an event about an exception: `error`, `where`, and `cause` if it has one.

    `where` lists up to `MAX_FRAMES` places ("clients.py:88 serve"), innermost first, from the
    exception's own traceback unless another one is given.
    """
    if error is None:
        return {}
    fields: dict[str, str | list[str]] = {"error": described(error)}
    where = list(_frames(trace or error.__traceback__))[-MAX_FRAMES:]
    if where:
        fields["where"] = where[::-1]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        fields["cause"] = described(cause)
    return fields


def _frames(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        code = trace.tb_frame.f_code
        # The basename, as a full path says more about the machine than about the fault.
        yield f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_name}"  # noqa: PTH119 - a name, not a file
        trace = trace.tb_next
