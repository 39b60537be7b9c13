# SPDX-License-Identifier: GPL-2.0-or-later
"""Log events as lines: values that JSON has, at most MAX_LINE bytes, no text of foreign errors.

Rules of every line (contract.md, "Log events"):

1. `timestamp`, `level` and `event` come first, then the event's fields in the order given. Fields
   whose value is None are left out.
2. A line has at most MAX_LINE bytes with its newline, is UTF-8, and has no other newline. A value
   that was cut ends in "...", and the event then has `"truncated": true`.
3. Making a line never raises. An event that cannot be encoded keeps only its first three fields.
4. An exception is logged by its type. Its text is logged only if it is of this package or of the
   operating system: any other text may hold a payload.
"""

from __future__ import annotations

import enum
import os
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from lonc_gevent.errors import LoncError

from . import ecs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

MAX_LINE: Final = 4096
"""Bytes. Collectors split or cut longer messages (rsyslog at 8 KiB unless configured otherwise,
Docker at 16 KiB), and a part of a JSON object cannot be parsed. The margin is for what they add."""

CUTS: Final = (3072, 2048, 1024, 512, 256, 128, 64, 32)
"""Characters that each value may have, tried in this order until the line fits."""

MAX_FRAMES: Final = 8

Fields: TypeAlias = dict[str, Any]

_HEAD: Final = ("timestamp", "level", "event")
_JSON_SCALARS: Final = frozenset({type(None), bool, int, float})
_COLLECTIONS: Final = frozenset({list, tuple, set, frozenset})
_TRUNCATED: Final[Fields] = {"truncated": True}
_encode = msgspec.json.Encoder().encode


def json_line(fields: Fields) -> bytes:
    """Encode an event as a JSON line."""
    return _encode(fields) + b"\n"


def ecs_line(fields: Fields) -> bytes:
    """Encode an event as a JSON line in the names of the Elastic Common Schema."""
    return json_line(ecs.renamed(fields))


def bounded_line(event: Fields, render: Callable[[Fields], bytes]) -> bytes:
    """Return the line that `render` makes of the event, with values cut until the line fits."""
    head = {name: event.pop(name, None) for name in _HEAD}
    try:
        fields = {n: _plain(value) for n, value in (head | event).items() if value is not None}
        line = render(fields)
        for limit in CUTS:
            if len(line) <= MAX_LINE:
                return line
            cut = {name: _cut(value, limit) for name, value in fields.items()}
            line = render(cut | _TRUNCATED)
        if len(line) <= MAX_LINE:
            return line
    except Exception:  # noqa: BLE001, S110 - logging must not raise # nosec B110
        pass
    return render(
        {name: _cut(str(_plain(value)), CUTS[-1]) for name, value in head.items()} | _TRUNCATED
    )


def _plain(value: Any) -> Any:  # noqa: PLR0911 - a table of types
    """Return a value that JSON has. Objects become their `str`, as their fields may be secret."""
    kind = type(value)
    if kind in _JSON_SCALARS:
        return value
    if kind is str:
        # Halves of surrogate pairs come from file names that are not UTF-8.
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if kind is bytes:
        return value.decode("utf-8", "backslashreplace")
    if kind is dict:
        return {str(_plain(name)): _plain(item) for name, item in value.items()}
    if kind in _COLLECTIONS:
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    try:
        return _plain(error_text(value) if isinstance(value, BaseException) else str(value))
    except Exception:  # noqa: BLE001 - a value's own __str__ may raise any of them
        return f"<{kind.__name__}>"


def _cut(value: Any, limit: int) -> Any:
    text = value if isinstance(value, str) else _encode(value).decode()
    return value if len(text) <= limit else f"{text[: limit - 3]}..."


# -- exceptions -------------------------------------------------------------------------------


def error_text(error: BaseException) -> str:
    """Return an exception's type, and its text if that is of this package or of the system."""
    name = type(error).__name__
    if isinstance(error, LoncError):
        return f"{name}: {error}"
    if isinstance(error, OSError) and isinstance(error.errno, int):
        text = os.strerror(error.errno)
        # Any code can put any text into an OSError, so only the system's own text is logged.
        if error.strerror == text:
            return f"{name}: {text}"
    return name


def error_fields(
    error: BaseException | None, trace: TracebackType | None = None
) -> dict[str, str | list[str]]:
    """Return the fields of an exception: `error`, `where`, and `cause` if it has one.

    `where` lists up to MAX_FRAMES places ("clients.py:88 serve"), innermost first, from the
    exception's own traceback unless another one is given.
    """
    if error is None:
        return {}
    fields: dict[str, str | list[str]] = {"error": error_text(error)}
    where = list(_frames(trace or error.__traceback__))[-MAX_FRAMES:]
    if where:
        fields["where"] = where[::-1]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        fields["cause"] = error_text(cause)
    return fields


def _frames(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        code = trace.tb_frame.f_code
        # The base name: the full path is about the machine, not about the error.
        yield f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_name}"  # noqa: PTH119 - a name, not a file
        trace = trace.tb_next
