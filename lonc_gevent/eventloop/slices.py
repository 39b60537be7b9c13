# SPDX-License-Identifier: GPL-2.0-or-later
"""Long work in short slices, so that no request waits for it."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import gevent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SLICE = 0.001
"""Seconds of work before the others have their turn."""

PAUSE = 0.001
"""Seconds; a timer and not `sleep(0)`, after which sockets would not have been looked at."""

T = TypeVar("T")


def in_slices(items: Iterable[T]) -> Iterator[T]:
    """Yield the items; after each SLICE of work on them, let other greenlets run.

    The items must not change meanwhile: give a tuple. Only for greenlets that may sleep.
    """
    began = monotonic()
    for item in items:
        yield item
        if monotonic() - began > SLICE:
            gevent.sleep(PAUSE)
            began = monotonic()
