# SPDX-License-Identifier: GPL-2.0-or-later
"""Who takes part in the turns of the hub (turns.py), and what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lonc_gevent.protocol.lines import Line


class Reader(Protocol):
    """What is told of something to read: a stream, or a listening socket."""

    fd: int
    reading: bool
    """Whether to read for it, and to leave that in `data` before it is told."""
    data: bytes | None
    watched: bool
    """Whether it is watched, or expected to be tried; set to False when that has ended."""
    asks: bool
    """Whether it asks, and the other side answers, as it is with lond."""

    @property
    def accepts(self) -> bool:
        """Whether it accepts clients: it is told at once, and they are tried in the same round."""

    def on_readable(self) -> None:
        """Hear that there may be something to read. It is told again until it is read."""

    def fail(self, error: Exception) -> None:
        """Hear that it could not be read. Who waits is woken by this, not by `on_readable`."""


class Poster(Protocol):
    """What has a line to write: a stream."""

    fd: int
    posted: Line | None
    """What is to go out; None once it has, or is not to any more."""
    sent: int
    """How many bytes of it the kernel took."""
    asks: bool
    """Whether what it posts is a request, which is not written while there is something to read."""

    def fail(self, error: Exception) -> None:
        """Hear that it could not be written."""

    def is_quiet(self) -> bool:
        """Say whether there is nothing to read."""

    def on_unsent(self) -> None:
        """Hear that it did not all go out at once."""


class DeadlineError(Exception):
    """The stream's deadline passed while a greenlet waited on it."""


class UnsentError(Exception):
    """What was posted did not all go out at once: the rest is on the reader."""


class UnquietError(Exception):
    """There is something to read where nothing should be: what was posted was not written."""
