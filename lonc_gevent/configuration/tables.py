# SPDX-License-Identifier: GPL-2.0-or-later
"""A TOML file taken apart into checked values, key by key, so that every fault is told at once.

What is known is read off the structs of settings.py: the tables, their keys, each key's type and
the words for it. Nothing here knows what a key is for.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

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
# tomllib's cost grows with the square of the number of names that dots join: 60,000 of them take
# a minute and more memory than there is. A name is a word or a quoted string.
_NAME = r"""(?:(?<![\w-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_TOO_MANY_DOTS = re.compile(rf"^(?![ \t]*#).*?(?:{_NAME}\.[ \t]*+){{33}}", re.ASCII | re.MULTILINE)


class Key(Struct, frozen=True):
    """What is known about one key of a table.

    type      what msgspec checks a value against
    default   its value when it is left out
    expected  the type in words
    is_path   whether the value is the path of a file
    """

    type: Any
    default: Any
    expected: str
    is_path: bool


class Draft(Struct):
    """The good values of a TOML file, by table and key, nothing filled in yet.

    bad: the dotted keys whose value was no good (their absence means nothing).
    """

    tables: dict[str, dict[str, Any]]
    hosts: dict[str, dict[str, Any]]
    bad: set[str]


@cache
def keys_of(struct: type[Struct]) -> dict[str, Key]:
    """Read the keys of a settings struct off its annotations."""
    return {
        field.encode_name: _key(field.type, field.default)
        for field in msgspec.structs.fields(struct)
    }


@cache
def known_tables() -> dict[str, type[Struct]]:
    """Name the tables of the TOML file, but for `[hosts.ID]`, with their structs."""
    fields = msgspec.structs.fields(settings.Settings)
    return {field.name: field.type for field in fields if field.name != HOSTS}


def parse(data: bytes, sheet: Sheet) -> dict[str, Any] | None:
    """Parse a TOML file; None if it is none, and `sheet` says where and why. Never raises."""
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
    """Check each table and key of a parsed TOML file; faults go to `sheet`."""
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
    """Check one value; raises msgspec.ValidationError. Not strict: "5663" is a number, too."""
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
    """Check the keys of one table; return the good ones."""
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
    """Say what an unknown key might have been meant to be: what was found, a hint."""
    if path[0] == HOSTS:
        if name in ("max_queued_bytes", "max_bytes_in_flight"):
            return "holds for all hosts together", "expected in [pool] only"
        if isinstance(value, dict):
            whole = dotted(HOSTS, f"{path[1]}.{name}")
            return "unknown table", f"an id with a dot is quoted: [{whole}]"
    near = nearest(name, keys, _LIKENESS)
    if near is None:
        # Perhaps it is in the wrong table, right but for that.
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
    """Show what stands in place of a table; `[[x]]` makes an array where `[x]` was meant."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "an array of tables ([[...]])"
    return show(value)


def _key(annotation: Any, default: Any) -> Key:
    """Make the `Key` of one annotation: `Annotated[...]`, or that `| None` for an override."""
    if get_origin(annotation) is not Annotated:
        annotation = next(arg for arg in get_args(annotation) if arg is not type(None))
    meta = next(item for item in get_args(annotation) if isinstance(item, Meta))
    is_path = bool((meta.extra or {}).get("path"))
    return Key(annotation, default, meta.description or "", is_path)
