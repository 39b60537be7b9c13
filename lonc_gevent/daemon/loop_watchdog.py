# SPDX-License-Identifier: GPL-2.0-or-later
"""How long the hub is held: the time for which nobody else had a turn, and who took it.

A timer comes again after each moment; by as much as it is late, something held the hub. So a hold
is seen up to one moment shorter than it was, and never longer. While the hub is held nothing in
it can tell by whom: a native thread looks at the main thread's frames then.

A machine that is too busy, or stopped, holds the hub as well. `cpu_ms` beside `duration_ms` in
event `hub_held` tells them apart: the CPU time that the main thread itself used meanwhile.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from math import inf
from time import monotonic, thread_time
from typing import TYPE_CHECKING, Final, NamedTuple

import gevent

from lonc_gevent.logs.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from structlog.typing import FilteringBoundLogger

BUSY_MOMENT: Final = 0.02
IDLE_MOMENT: Final = 0.1
"""Seconds between two looks of the timer: a daemon at rest is not to be woken often for this."""

SUSPICION: Final = 0.05
"""Seconds late, from which on the thread looks who it is, as often as that."""

LIMIT: Final = 0.1
"""Seconds: a hold that is as long is logged."""

LOG_INTERVAL: Final = 10.0
"""Seconds between two `hub_held` events; `count` says how many holds the later one stands for. What
it tells of is the worst of these."""

WINDOW: Final = 60.0
"""Seconds that `last_minute_ms` looks back."""

INNERMOST: Final = 3
"""Frames of a stack that are named."""


class Hold(NamedTuple):
    """One hold, as it is logged. The worst is the one in which most of the work was our own."""

    cpu_ms: float
    duration_ms: float
    who: list[str]


NO_HOLD: Final = Hold(0.0, 0.0, [])


class Watchdog:
    """Watches the hub of the thread that makes it. `is_busy` tells whether anything goes on.

    At rest it costs 0.04 % of a core for the timer and 0.05 % for the thread, most of it for
    waking up. A repeating timer, not a greenlet that sleeps: that would be twice as much.
    """

    def __init__(self, logger: FilteringBoundLogger, is_busy: Callable[[], bool]) -> None:
        self.longest_ms = 0.0
        """The longest hold since the start, in milliseconds."""
        self.holds = 0
        """How many holds were as long as `LIMIT`."""
        self._log = logger
        self._is_busy = is_busy
        self._thread_id = threading.get_ident()
        self._recent: deque[tuple[float, float]] = deque()
        self._throttle = Throttle(LOG_INTERVAL)
        self._worst = NO_HOLD  # of those that were not logged yet
        self._seen: Counter[str] = Counter()
        self._due = inf  # when the timer should come; the thread reads it
        self._cpu = 0.0  # what the main thread had used when the timer came last
        self._ended = threading.Event()
        loop = gevent.get_hub().loop
        self._timers = {moment: loop.timer(moment, moment) for moment in (BUSY_MOMENT, IDLE_MOMENT)}
        self._moment = 0.0  # of the timer that runs; none yet

    def __repr__(self) -> str:
        return f"<Watchdog longest {self.longest_ms:.0f} ms, {self.holds} holds>"

    @property
    def last_minute_ms(self) -> float:
        """The longest hold that ended in the last minute, in milliseconds."""
        self._forget(monotonic())
        return self._recent[0][1] if self._recent else 0.0

    def start(self) -> None:
        """Begin to watch."""
        self._choose(BUSY_MOMENT)
        threading.Thread(target=self._look_on, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more. May be called at any time, and again."""
        self._ended.set()
        for timer in self._timers.values():
            timer.stop()
            timer.close()
        self._timers.clear()

    # -- the timer ---------------------------------------------------------------------------

    def _choose(self, moment: float) -> None:
        for timer in self._timers.values():
            timer.stop()
        self._moment = moment
        self._cpu = thread_time()
        self._due = monotonic() + moment
        self._timers[moment].start(self._look)

    def _look(self) -> None:
        now = monotonic()
        if now > self._due:
            self._note(now, now - self._due, self._cpu)
        moment = BUSY_MOMENT if self._is_busy() else IDLE_MOMENT
        if moment != self._moment:
            self._choose(moment)
            return
        self._cpu = thread_time()
        self._due = now + moment

    def _note(self, now: float, late: float, cpu_before: float) -> None:
        late_ms = late * 1000
        self.longest_ms = max(self.longest_ms, late_ms)
        # Kept: what no later hold has exceeded. So the first one is the longest.
        self._forget(now)
        while self._recent and self._recent[-1][1] <= late_ms:
            self._recent.pop()
        self._recent.append((now, late_ms))
        if late < LIMIT:
            # What the thread saw belongs to a hold that came to nothing.
            if self._seen:
                self._seen = Counter()
            return
        self.holds += 1
        seen, self._seen = self._seen, Counter()
        who = [stack for stack, _times in seen.most_common(1)]
        cpu_ms = (thread_time() - cpu_before) * 1000
        self._worst = max(self._worst, Hold(round(cpu_ms, 3), round(late_ms, 3), who))
        count = self._throttle.count(now)
        if count:
            self._log.warning("hub_held", **self._worst._asdict(), count=count)
            self._worst = NO_HOLD

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - WINDOW:
            self._recent.popleft()

    # -- the thread --------------------------------------------------------------------------

    def _look_on(self) -> None:
        pause = SUSPICION
        while not self._ended.wait(pause):
            left = self._due + SUSPICION - monotonic()
            if left <= 0:
                frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001 - made for this
                if frame is not None:
                    self._seen[describe(frame)] += 1
                del frame  # it would keep all its variables alive
            pause = min(max(left, SUSPICION), IDLE_MOMENT + SUSPICION)


def describe(frame: FrameType | None) -> str:
    """Name the innermost frames, as `file:line function < caller`; never what is in them."""
    named: list[str] = []
    while frame is not None and len(named) < INNERMOST:
        code = frame.f_code
        file = "/".join(code.co_filename.rsplit("/", 2)[-2:])
        named.append(f"{file}:{frame.f_lineno} {code.co_name}")
        frame = frame.f_back
    return " < ".join(named)
