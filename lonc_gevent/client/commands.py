# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests built of their parts, and replies taken apart (protocol.md, section 2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from .errors import ArgumentError
from .escaping import Value, escape, escape_field, pack, unescape, unpack, unpack_list

Part: TypeAlias = Value | Iterable[Value] | Mapping[str, Value]
Nested: TypeAlias = "str | list[Nested] | dict[str, Nested]"

HASH: Final = b"__HASH_REF__"
END_HASH: Final = b"__END_HASH_REF__"
ARRAY: Final = b"__ARRAY_REF__"
END_ARRAY: Final = b"__END_ARRAY_REF__"

MAX_DEPTH: Final = 100

_VERB = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_KEY = re.compile(rb"([^&=]*)=")
_SCALAR = re.compile(rb"(?:(?!__END_(?:HASH|ARRAY)_REF__)[^&=])*")


def command(verb: str, *parts: Part) -> bytes:
    """Return the request `verb:part:part...`, with each part escaped.

    A part is text, bytes or a number; a list, joined by `&`; or a mapping, as `key=value&...`.
    In a part that is not a list or mapping, `-`, `.` and `@` stay, as in user names. Whatever the
    parts hold, the request has as many fields and items as there are arguments. Raises
    ArgumentError.

    command("get", "msu", "ada.b", "environment", ["first name"])
    -> b"get:msu:ada.b:environment:first%20name"
    """
    if not isinstance(verb, str) or not _VERB.fullmatch(verb):
        raise ArgumentError(f"{verb!r}: expected a verb of letters, digits and _")
    fields = (
        escape_field(p) if isinstance(p, (str, bytes, int, float)) else pack(p) for p in parts
    )
    return b":".join((verb.encode(), *fields))


def parse_pairs(reply: bytes, errors: str = "replace") -> dict[str, str]:
    """Return `key=value&key=value` as text in UTF-8; a pair without `=` has the value "".

    `errors` is that of bytes.decode. For the exact bytes use `unpack`.
    """
    return {k.decode(errors=errors): v.decode(errors=errors) for k, v in unpack(reply).items()}


def parse_list(reply: bytes, errors: str = "replace") -> list[str]:
    """Return `item&item` as text in UTF-8; `errors` is that of bytes.decode.

    For the exact bytes use `unpack_list`.
    """
    return [item.decode(errors=errors) for item in unpack_list(reply)]


def freeze(value: Nested) -> bytes:
    """Return nested lists and dictionaries of text in lonnet's form `__HASH_REF__...`.

    As a part of a request, it is escaped once more. Raises ArgumentError.
    """
    if isinstance(value, Mapping):
        pairs = (_scalar(key) + b"=" + freeze(item) for key, item in value.items())
        return HASH + b"&".join(pairs) + END_HASH
    if isinstance(value, (list, tuple)):
        items = b"&".join(map(freeze, value))
        # An `&` at the end keeps an empty last item.
        return ARRAY + items + b"&" * (bool(value) and not value[-1]) + END_ARRAY
    return _scalar(value)


def _scalar(value: Value) -> bytes:
    # lonnet does not escape `_`, so a text could end the list that it is in.
    return escape(value).replace(b"__", b"%5f%5f")


def thaw(data: bytes, errors: str = "replace") -> Nested:
    """Undo `freeze`; `errors` is that of bytes.decode. Raises ArgumentError.

    Perl's Storable (`__FROZEN__`) is not read: it can hold more than data.
    """
    value, end = _thaw(data, 0, errors, MAX_DEPTH)
    if end != len(data):
        raise ArgumentError(f"not in the form of freeze(): byte {end} of {len(data)}")
    return value


def _thaw(data: bytes, at: int, errors: str, depth: int) -> tuple[Nested, int]:
    """Return the value at this offset, and where it ends."""
    if depth == 0:
        raise ArgumentError(f"nested more than {MAX_DEPTH} deep")
    values: dict[str, Nested] = {}
    for begin, end in ((HASH, END_HASH), (ARRAY, END_ARRAY)):
        if not data.startswith(begin, at):
            continue
        at += len(begin)
        while not data.startswith(end, at):
            key = str(len(values))
            if begin is HASH:
                found = _KEY.match(data, at)
                if found is None:
                    raise ArgumentError(f"expected a key at byte {at}")
                key, at = unescape(found[1]).decode(errors=errors), found.end()
            values[key], at = _thaw(data, at, errors, depth - 1)
            if data[at : at + 1] == b"&":
                at += 1
            elif not data.startswith(end, at):
                raise ArgumentError(f"expected & or the end at byte {at}")
        return (values if begin is HASH else list(values.values())), at + len(end)
    found = _SCALAR.match(data, at)
    assert found is not None  # noqa: S101 - it matches nothing, too # nosec B101
    return unescape(found[0]).decode(errors=errors), found.end()
