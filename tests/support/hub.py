# SPDX-License-Identifier: GPL-2.0-or-later
"""For tests of what runs in the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import getcurrent

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub


def in_hub(hub: Hub, action: Callable[[], None]) -> None:
    """Run `action` in the hub, and return when it is done.

    For what switches to other greenlets: they come back to the hub, not to the one that calls. Not
    for a greenlet that others may wake meanwhile.
    """
    current = getcurrent()

    def act() -> None:
        try:
            action()
        finally:
            current.switch()

    hub.loop.run_callback(act)
    hub.switch()
