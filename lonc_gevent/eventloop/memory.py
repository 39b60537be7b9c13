# SPDX-License-Identifier: GPL-2.0-or-later
"""A limit for the memory of long lines, beyond which their readers pause."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING

from .stream import MEDIUM_READ

if TYPE_CHECKING:
    from .stream import Stream

LONG = MEDIUM_READ
"""Bytes. A line of which as many were read, and that goes on, is counted."""


class LongLine(bytearray):
    """A line whose bytes are counted in a budget until it is freed, wherever it is passed to."""

    __slots__ = ("_budget", "counted")

    def __init__(self, start: bytes | bytearray, budget: MemoryBudget) -> None:
        self.counted = 0
        self._budget = budget
        super().__init__(start)

    def __del__(self) -> None:
        self._budget.freed(self)


class MemoryBudget:
    """Counts the bytes of all lines of one kind, requests or replies, that are long.

    While they are more than `limit`, readers pause, except that of the oldest line. What the end of
    the oldest line depends on must not be paused by the same budget: then each line is read to its
    end sooner or later. A reply depends on its lond and its client only; a request also on the
    replies before it, which have a budget of their own.
    """

    def __init__(self, limit: float = inf) -> None:
        self.limit = limit
        self.used = 0
        self._lines: OrderedDict[int, None] = OrderedDict()  # their ids, the oldest first
        self._waiting: list[Stream] = []

    def __repr__(self) -> str:
        return f"<MemoryBudget {self.used} of {self.limit} bytes, {len(self._waiting)} waiting>"

    def line(self, start: bytes | bytearray = b"") -> LongLine:
        """Return a line that is counted here."""
        line = LongLine(start, self)
        self._lines[id(line)] = None
        self.count(line)
        return line

    def count(self, line: LongLine) -> None:
        """Count the growth of a line."""
        self.used += len(line) - line.counted
        line.counted = len(line)

    def counted(self, data: bytes | bytearray) -> bytes | bytearray:
        """Count a line, or the beginning of one, if it is long; return it."""
        if len(data) <= LONG:
            return data
        if not isinstance(data, LongLine):
            return self.line(data)
        self.count(data)
        return data

    def admit(self, data: bytearray, stream: Stream) -> bytearray:
        """Count the beginning of a line, and return it once more of it may be read.

        Raises DeadlineError, as `Stream.pause` does.
        """
        line = self.counted(data)
        if not isinstance(line, LongLine):
            return data
        while self.used > self.limit and next(iter(self._lines)) != id(line):
            self._waiting.append(stream)
            stream.pause()
        return line

    def freed(self, line: LongLine) -> None:
        """Count a line no more. Called when it is freed."""
        self.used -= line.counted
        self._lines.pop(id(line), None)
        waiting, self._waiting = self._waiting, []
        for stream in waiting:
            stream.resume()


UNLIMITED = MemoryBudget()
"""Budget without a limit."""
