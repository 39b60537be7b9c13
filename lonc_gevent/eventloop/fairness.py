# SPDX-License-Identifier: GPL-2.0-or-later
"""Fairness between greenlets that work for long without a wait, and all others."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

import gevent
from greenlet import getcurrent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gevent.hub import Hub

SLICE: Final = 0.001
"""Seconds of work before `in_slices` lets other greenlets run."""

T = TypeVar("T")


def yield_to_others(hub: Hub) -> None:
    """Let each other ready greenlet run first, and the callback of each readable descriptor.

    `gevent.sleep(0)` returns before the loop has polled its descriptors, and a timer of normal
    priority before the callbacks of the readable ones.
    """
    timer = hub.loop.timer(0, priority=hub.loop.MINPRI)  # type: ignore[attr-defined]
    timer.start(getcurrent().switch)
    try:
        hub.switch()
    finally:
        timer.stop()
        timer.close()


def in_slices(items: Iterable[T]) -> Iterator[T]:
    """Yield the items; after each SLICE of work on them, let other greenlets run.

    The items must not change meanwhile, so pass a tuple. Only for greenlets that may wait.
    """
    hub = gevent.get_hub()
    began = monotonic()
    for item in items:
        yield item
        if monotonic() - began > SLICE:
            yield_to_others(hub)
            began = monotonic()
