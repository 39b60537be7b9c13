# SPDX-License-Identifier: GPL-2.0-or-later
"""Problems of a configuration, and short forms of the values in them.

A `Problem` is one line: file, key or line number, what was found, what was expected. A `Sheet`
collects those of one file, a `Report` those of all. Values are shortened, and control characters
escaped, as a file may contain any bytes.
"""

from __future__ import annotations

import errno
import re
from difflib import get_close_matches
from enum import Enum
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from lonc_gevent.printable import escape

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

SHOWN_PROBLEMS = 50
"""Problems of one file that are listed; the others are only counted."""

_SHOWN_HEAD = 38
_SHOWN_TAIL = 17
_SHOWN = _SHOWN_HEAD + 3 + _SHOWN_TAIL
_SHOWN_DIGITS = 10**18
_COMPARED = 64
_CANDIDATES = 5000
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


NOT_THERE = "does not exist"
IS_DIRECTORY = "is a directory"
"""Two of the reasons that a file cannot be read."""

READABLE = "expected a file that can be read"

_REASONS = {
    errno.ENOENT: NOT_THERE,
    errno.EACCES: "may not be read by this user",
    errno.ELOOP: "is a loop of symbolic links",
    errno.ENOTDIR: "is below something that is not a directory",
    errno.ENAMETOOLONG: "is too long a path",
}


class Severity(Enum):
    """Consequence of a problem for a start and a reload.

    FATAL    refused
    ERROR    the other hosts are served; `check` exits with 2
    WARNING  all hosts are served; `check` exits with 0
    """

    FATAL = "fatal"
    ERROR = "error"
    WARNING = "warning"


class Problem(Struct, frozen=True):
    """One thing to correct.

    file      the file, as it was named by the user
    where     a key (`pool.max_queued`), a line (`line 12`), or "" for the whole file
    found     the value found, or what is wrong
    expected  the value expected, or a hint
    """

    file: str
    where: str
    found: str
    expected: str
    severity: Severity = Severity.FATAL

    def __str__(self) -> str:
        place = [escape(part) for part in (self.file, self.where) if part]
        fault = "; ".join(part for part in (self.found, self.expected) if part)
        return ": ".join([*place, fault])


class Fault(NamedTuple):
    """A problem of the value of a key, whichever file the key is in."""

    key: str
    found: str
    expected: str = ""
    severity: Severity = Severity.FATAL


class Sheet:
    """The problems of one file, the first `SHOWN_PROBLEMS` of them in full.

    severity: the default of `add`
    """

    def __init__(self, file: str, severity: Severity = Severity.FATAL) -> None:
        self.file = file
        self.severity = severity
        self._problems: list[Problem] = []
        self._more = 0

    @property
    def full(self) -> bool:
        """Whether `add` only counts, so that a caller can skip the search for a hint."""
        return len(self._problems) >= SHOWN_PROBLEMS

    def add(
        self, where: str, found: str, expected: str = "", severity: Severity | None = None
    ) -> None:
        """Add a problem. A fatal one is listed even if the sheet is full."""
        problem = Problem(self.file, where, found, expected, severity or self.severity)
        if self.full and severity is not Severity.FATAL:
            self._more += 1
        else:
            self._problems.append(problem)

    def problems(self) -> tuple[Problem, ...]:
        """Return the listed problems, and one more with the number of the others, if any."""
        if not self._more:
            return tuple(self._problems)
        rest = Problem(self.file, "", f"... and {self._more} more", "", self.severity)
        return (*self._problems, rest)


class Report:
    """The sheets of one configuration, and which file and place gave each key its value."""

    def __init__(self, toml: str) -> None:
        self.toml = Sheet(toml)
        self._sheets = [self.toml]
        self._origins: dict[str, tuple[Sheet, str]] = {}

    def sheet(self, file: str, severity: Severity = Severity.FATAL) -> Sheet:
        """Add and return the sheet of another file."""
        sheet = Sheet(file, severity)
        self._sheets.append(sheet)
        return sheet

    def came_from(self, key: str, sheet: Sheet, where: str) -> None:
        """Record the place of the value of `key`, which is not in the TOML file."""
        self._origins[key] = sheet, where

    def origins(self) -> dict[str, str]:
        """Return the file and place of each value that is not from the TOML file, by key."""
        return {key: f"{sheet.file}: {where}" for key, (sheet, where) in self._origins.items()}

    def fault(
        self, key: str, found: str, expected: str = "", severity: Severity | None = None
    ) -> None:
        """Add a problem of the value of `key`, at the place of that value."""
        sheet, where = self._origins.get(key, (self.toml, key))
        sheet.add(where, found, expected, severity)

    def problems(self) -> tuple[Problem, ...]:
        """Return the problems of all sheets."""
        return tuple(problem for sheet in self._sheets for problem in sheet.problems())


def reason_of(error: OSError) -> str:
    """Return why a file cannot be read, as the end of a sentence."""
    return _REASONS.get(error.errno or 0, f"cannot be read ({error.strerror})")


def is_fatal(problems: Iterable[Problem]) -> bool:
    """Return whether one of these keeps the daemon from a start."""
    return any(problem.severity is Severity.FATAL for problem in problems)


def show(value: object) -> str:
    """Return a value of a TOML file, or a part of a line, in about 60 characters at most."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    match value:
        case bool():
            shown = "true" if value else "false"
        case int():
            shown = str(value) if abs(value) < _SHOWN_DIGITS else "a huge number"
        case float():
            shown = repr(value)
        case str():
            shown = f'"{shorten(value)}"'
        case dict():
            shown = "a table"
        case list():
            shown = "an array"
        case _:
            shown = "a date or a time"
    return shown


def shorten(text: str) -> str:
    """Return the beginning and end of a long text, escaped for use in double quotes."""
    if len(text) <= _SHOWN and len(whole := "".join(map(_quote, text))) <= _SHOWN:
        return whole
    head = _fitting(text[:_SHOWN_HEAD], _SHOWN_HEAD)
    tail = _fitting(text[-_SHOWN_TAIL:][::-1], _SHOWN_TAIL)
    return "".join([*head, "...", *reversed(tail)])


def dotted(*parts: str) -> str:
    """Join the parts of a key as in TOML: `hosts."s10.l2".port`."""
    return ".".join(shorten(part) if _BARE_KEY.match(part) else show(part) for part in parts)


def nearest(name: str, known: Collection[str], likeness: float = 0.0) -> str | None:
    """Return the known name most similar to `name`, None if its similarity is below `likeness`.

    Also returns None for very many known names, as comparing with each would take too long.
    """
    if len(known) > _CANDIDATES:
        return None
    found = get_close_matches(name[:_COMPARED], known, n=1, cutoff=likeness)
    return found[0] if found else None


def did_you_mean(name: str | None) -> str:
    """Return a hint with the name that `nearest` returned."""
    return f"did you mean {name}?" if name else ""


def _fitting(text: str, width: int) -> list[str]:
    """Return the first characters of `text`, escaped, that fit into `width`."""
    pieces = [_quote(char) for char in text]
    return [p for p, end in zip(pieces, accumulate(map(len, pieces)), strict=True) if end <= width]


def _quote(char: str) -> str:
    return f"\\{char}" if char in '"\\' else escape(char)
