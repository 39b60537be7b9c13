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
    """What is known about an event: its levels and its fields."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    open: bool = False
    """Whether it may have fields that cannot be read off the call."""


def in_code() -> dict[str, Event]:
    """Find every event that the package logs: calls such as `log.info("name", field=...)`."""
    found: dict[str, Event] = {}
    for path in PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                _note(call, call.func, found)
    return found


def _note(call: ast.Call, function: ast.Attribute, found: dict[str, Event]) -> None:
    names = [a.value for a in call.args if isinstance(a, ast.Constant) and type(a.value) is str]
    owner = ast.unparse(function.value).lower()
    if function.attr == "trouble" and names:  # Replayer.trouble logs what it is given
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
    """Read the rows of the catalogue's tables."""
    rows = [ROW.match(line) for line in CATALOGUE.read_text(encoding="utf-8").splitlines()]
    return {
        row[1]: Event(set(row[2].split(", ")), set(re.findall(r"`(\w+)`", row[3])))
        for row in rows
        if row
    }


def test_every_event_is_in_the_catalogue() -> None:
    """Every event that the package logs has a row in docs/reference/log-events.md."""
    # The writer's own event is made without a logger (logs.py).
    assert set(in_code()) | {"log_lines_dropped"} == set(in_catalogue())


def test_levels_are_those_of_the_code() -> None:
    """The levels in the catalogue are those that the code logs the event with."""
    catalogue = in_catalogue()
    for name, event in in_code().items():
        known = catalogue[name].levels
        assert known >= event.levels if event.open else known == event.levels, name


def test_fields_are_those_of_the_code() -> None:
    """Each field of a call is in the catalogue; and no other, unless the call leaves it open."""
    catalogue = in_catalogue()
    always = {"host"}  # a pool's logger adds it to all of its events
    for name, event in in_code().items():
        known = catalogue[name].fields
        assert known >= event.fields, (name, event.fields - known)
        if not event.open:
            assert known - always <= event.fields, (name, known - event.fields)


def test_the_catalogue_is_sorted() -> None:
    """A table's rows stand in alphabetical order, for people to find them."""
    blocks = re.split(r"\n\n", CATALOGUE.read_text(encoding="utf-8"))
    for block in blocks:
        names = [row[1] for row in map(ROW.match, block.splitlines()) if row]
        assert names == sorted(names)
