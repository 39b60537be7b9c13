# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of a TOML file, checked key by key, so that all faults are reported at once.

The known tables and keys, their types and descriptions are those of the structs in settings.py.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from lonc_gevent.printable import escape

from . import settings
from .problems import did_you_mean, dotted, nearest, show

if TYPE_CHECKING:
    from .problems import Sheet

HOSTS = "hosts"

_LIKENESS = 0.6
_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|(end of document))\)\Z", re.DOTALL)
_INDEX = re.compile(r" - at `\$\[(\d+)\]`\Z")
_MESSAGE_MAX = 90
# The cost of tomllib grows with the square of the number of names that dots join: 60,000 take a
# minute, and exhaust the memory. A name is a word or a quoted string.
_NAME = r"""(?:(?<![\w-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_TOO_MANY_DOTS = re.compile(rf"^(?![ \t]*#).*?(?:{_NAME}\.[ \t]*+){{33}}", re.ASCII | re.MULTILINE)


class Key(Struct, frozen=True):
    """A known key of a table.

    type      the type for msgspec
    default   its value if it is missing
    expected  the type in words
    is_path   whether the value is the path of a file
    """

    type: Any
    default: Any
    expected: str
    is_path: bool


class Draft(Struct):
    """The valid values of a TOML file, by table and key, without defaults.

    bad: the dotted keys with an invalid value, which have no value here.
    """

    tables: dict[str, dict[str, Any]]
    hosts: dict[str, dict[str, Any]]
    bad: set[str]


@cache
def keys_of(struct: type[Struct]) -> dict[str, Key]:
    """Return the keys of a settings struct, from its annotations."""
    return {
        field.encode_name: _key(field.type, field.default)
        for field in msgspec.structs.fields(struct)
    }


@cache
def known_tables() -> dict[str, type[Struct]]:
    """Return the tables of the TOML file except `[hosts.ID]`, with their structs."""
    fields = msgspec.structs.fields(settings.Settings)
    return {field.name: field.type for field in fields if field.name != HOSTS}


def parse(data: bytes, sheet: Sheet) -> dict[str, Any] | None:
    """Parse a TOML file; return None if it is invalid, with the problem in `sheet`."""
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
        sheet.add(f"line {line}", found, "expected a TOML file")
        return None
    dots = _TOO_MANY_DOTS.search(text)
    if dots:
        line = text.count("\n", 0, dots.end()) + 1
        sheet.add(f"line {line}", "more than 32 names joined by dots", "expected a setting")
        return None
    try:
        return tomllib.loads(text)
    except RecursionError:
        sheet.add("", "arrays or tables nested too deep", "expected a setting a line")
    except ValueError as error:  # TOMLDecodeError, or what int() says of 5,000 digits
        message, where = str(error), ""
        place = _PLACE.match(message)
        if place:
            message, line_, column, end = place.groups()
            where = end or f"line {line_}, column {column}"
        elif not isinstance(error, tomllib.TOMLDecodeError):
            message = "a number with too many digits"
        sheet.add(where, "not TOML", escape(message[:1].lower() + message[1:_MESSAGE_MAX]))
    return None


def read(document: dict[str, Any], sheet: Sheet) -> Draft:
    """Check each table and key of a parsed TOML file; add faults to `sheet`."""
    draft = Draft({name: {} for name in known_tables()}, {}, set())
    for name, value in document.items():
        if name == HOSTS:
            _read_hosts(value, draft, sheet)
        elif name not in known_tables():
            _unknown_table(name, value, sheet)
        elif not isinstance(value, dict):
            draft.bad.add(name)
            sheet.add(name, f"found {_show_untabled(value)}", f"expected a table: [{name}]")
        else:
            keys = keys_of(known_tables()[name])
            draft.tables[name] = _read_table((name,), value, keys, draft, sheet)
    return draft


def convert(value: object, key: Key, *, strict: bool = True) -> Any:
    """Check and return one value. Raises msgspec.ValidationError. If not strict, "5663" is 5663."""
    return msgspec.convert(value, key.type, strict=strict)


def _read_hosts(value: object, draft: Draft, sheet: Sheet) -> None:
    keys = keys_of(settings.HostOverrides)
    if not isinstance(value, dict):
        sheet.add(HOSTS, f"found {_show_untabled(value)}", "expected a table a host: [hosts.ID]")
        return
    for host_id, table in value.items():
        where = dotted(HOSTS, host_id)
        if isinstance(table, dict):
            draft.hosts[host_id] = _read_table((HOSTS, host_id), table, keys, draft, sheet)
        elif host_id in keys:
            sheet.add(
                where, "found a key outside of a host", f"expected [hosts.ID] {host_id} = ..."
            )
        else:
            sheet.add(where, f"found {_show_untabled(table)}", f"expected a table: [{where}]")


def _read_table(
    path: tuple[str, ...], table: dict[str, Any], keys: dict[str, Key], draft: Draft, sheet: Sheet
) -> dict[str, Any]:
    """Check the keys of one table; return the valid ones."""
    good = {}
    for name, value in table.items():
        key = keys.get(name)
        where = dotted(*path, name)
        if key is None:
            found, hint = ("", "") if sheet.full else _unknown_key(path, name, value, keys)
            sheet.add(where, found, hint)
            continue
        try:
            good[name] = convert(value, key)
        except msgspec.ValidationError as error:
            draft.bad.add(where)
            index = _INDEX.search(str(error))
            if index and isinstance(value, list):
                where, found = f"{where}[{index[1]}]", show(value[int(index[1])])
            else:
                found = show(value)
            sheet.add(where, f"found {found}", f"expected {key.expected}")
    return good


def _unknown_key(
    path: tuple[str, ...], name: str, value: object, keys: dict[str, Key]
) -> tuple[str, str]:
    """Return the fault of an unknown key, and a hint which key may be meant."""
    if path[0] == HOSTS:
        if name in ("max_queued_bytes", "max_bytes_in_flight"):
            return "holds for all hosts together", "expected in [pool] only"
        if isinstance(value, dict):
            whole = dotted(HOSTS, f"{path[1]}.{name}")
            return "unknown table", f"an id with a dot is quoted: [{whole}]"
    near = nearest(name, keys, _LIKENESS)
    if near is None:
        # A key of another table, perhaps.
        homes = {key: table for table, struct in known_tables().items() for key in keys_of(struct)}
        elsewhere = nearest(name, homes, _LIKENESS)
        if elsewhere:
            return "unknown key", did_you_mean(dotted(homes[elsewhere], elsewhere))
        near = nearest(name, keys)
    return "unknown key", did_you_mean(near and dotted(*path, near))


def _unknown_table(name: str, value: object, sheet: Sheet) -> None:
    where = dotted(name)
    if sheet.full:
        sheet.add(where, "")
    elif isinstance(value, dict):
        near = nearest(name, [*known_tables(), HOSTS])
        sheet.add(where, "unknown table", did_you_mean(near and f"[{near}]"))
    else:
        homes = {key: table for table, struct in known_tables().items() for key in keys_of(struct)}
        near = nearest(name, homes)
        sheet.add(where, "unknown key", did_you_mean(near and dotted(homes[near], near)))


def _show_untabled(value: object) -> str:
    """Return the short form of a value in place of a table, such as `[[x]]` for `[x]`."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "an array of tables ([[...]])"
    return show(value)


def _key(annotation: Any, default: Any) -> Key:
    """Return the `Key` of an annotation: a Literal or Annotated, or that `| None`."""
    if type(None) in get_args(annotation):
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        *others, last = (f'"{value}"' for value in get_args(annotation))
        return Key(annotation, default, f"{', '.join(others)} or {last}", is_path=False)
    meta = next(item for item in get_args(annotation) if isinstance(item, Meta))
    is_path = bool((meta.extra or {}).get("path"))
    return Key(annotation, default, meta.description or "", is_path)
