# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue of log events and the code name the same events, levels and fields."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

import lonc_gevent

PACKAGE = Path(lonc_gevent.__file__).parent
CATALOGUE = PACKAGE.parent / "docs" / "reference" / "log-events.md"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
OF_AN_EXCEPTION = {"error", "where", "cause"}
ROW = re.compile(r"^\| `(\w+)` \| ([\w, ]+) \| (.*?) \| (.+) \|$")


@dataclass
class Event:
    """Levels and fields of an event."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    open: bool = False
    """Whether it may have levels or fields that the call does not show."""


def in_code() -> dict[str, Event]:
    """Return every event that the package logs in calls such as `log.info("name", field=...)`."""
    found: dict[str, Event] = {}
    for path in PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                _note(call, call.func, found)
    return found


def _note(call: ast.Call, function: ast.Attribute, found: dict[str, Event]) -> None:
    names = [a.value for a in call.args if isinstance(a, ast.Constant) and type(a.value) is str]
    owner = ast.unparse(function.value).lower()
    if function.attr == "trouble" and names:  # Replayer.trouble logs its argument
        found[names[0]] = Event({"error"}, {"directory", "error"})
    if not owner.endswith(("log", "logger")) or not names:
        return
    if function.attr not in LEVELS | {"log"}:
        return
    event = found.setdefault(names[0], Event())
    if function.attr == "exception":
        event.levels.add("error")
        event.fields |= OF_AN_EXCEPTION
    elif function.attr == "log":
        event.open = True  # its level is computed
    else:
        event.levels.add(function.attr)
    for keyword in call.keywords:
        if keyword.arg is None:
            event.open = True
        else:
            event.fields.add(keyword.arg)


def in_catalogue() -> dict[str, Event]:
    """Return the rows of the catalogue's tables."""
    rows = [ROW.match(line) for line in CATALOGUE.read_text(encoding="utf-8").splitlines()]
    return {
        row[1]: Event(set(row[2].split(", ")), set(re.findall(r"`(\w+)`", row[3])))
        for row in rows
        if row
    }


def test_every_event_is_in_the_catalogue() -> None:
    """Every event that the package logs has a row in docs/reference/log-events.md."""
    # The log writer makes this event without a logger.
    assert set(in_code()) | {"log_lines_dropped"} == set(in_catalogue())


def test_levels_are_those_of_the_code() -> None:
    """The catalogue has the levels with which the code logs an event."""
    catalogue = in_catalogue()
    for name, event in in_code().items():
        known = catalogue[name].levels
        assert known >= event.levels if event.open else known == event.levels, name


def test_fields_are_those_of_the_code() -> None:
    """The catalogue has each field of a call, and others only if the call passes `**fields`."""
    catalogue = in_catalogue()
    always = {"host"}  # the logger of a pool adds it to all events
    for name, event in in_code().items():
        known = catalogue[name].fields
        assert known >= event.fields, (name, event.fields - known)
        if not event.open:
            assert known - always <= event.fields, (name, known - event.fields)


def test_the_catalogue_is_sorted() -> None:
    """The rows of each table are in alphabetical order."""
    blocks = re.split(r"\n\n", CATALOGUE.read_text(encoding="utf-8"))
    for block in blocks:
        names = [row[1] for row in map(ROW.match, block.splitlines()) if row]
        assert names == sorted(names)
