# SPDX-License-Identifier: GPL-2.0-or-later
"""Fairness between greenlets that never have to wait, and all others."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

import gevent
from greenlet import getcurrent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gevent.hub import Hub

SLICE: Final = 0.001
"""Seconds of work before `in_slices` lets others run."""

T = TypeVar("T")


def yield_to_others(hub: Hub) -> None:
    """Let every other greenlet that is ready, and every readable descriptor, run first.

    `gevent.sleep(0)` returns before the loop has polled its descriptors, and a timer of normal
    priority before the callbacks of those that are readable.
    """
    timer = hub.loop.timer(0, priority=hub.loop.MINPRI)  # type: ignore[attr-defined]
    timer.start(getcurrent().switch)
    try:
        hub.switch()
    finally:
        timer.stop()
        timer.close()


def in_slices(items: Iterable[T]) -> Iterator[T]:
    """Yield the items; after each SLICE of work on them, let others run.

    The items must not change meanwhile: pass a tuple. Only for greenlets that may wait.
    """
    hub = gevent.get_hub()
    began = monotonic()
    for item in items:
        yield item
        if monotonic() - began > SLICE:
            yield_to_others(hub)
            began = monotonic()
