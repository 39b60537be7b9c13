# SPDX-License-Identifier: GPL-2.0-or-later
"""Detection of a blocked event loop: for how long, and by which code.

A timer expires at a fixed interval. If it is called late, something blocked the loop for about as
long: at most one interval longer than is measured, never shorter. A blocked loop cannot find out
by which code; a thread samples the stack of the main thread meanwhile.

A machine that is too busy, or was suspended, blocks the loop as well. `cpu_ms` beside `duration_ms`
in event `hub_held` shows the difference: it is the CPU time that the main thread used meanwhile.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from logging import INFO, WARNING
from math import inf
from time import monotonic, thread_time
from typing import TYPE_CHECKING, Final, NamedTuple

import gevent

from lonc_gevent.logs.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from structlog.typing import FilteringBoundLogger

BUSY_INTERVAL: Final = 0.02
IDLE_INTERVAL: Final = 0.1
"""Seconds, the interval of the timer: longer while idle, as each call wakes the process."""

SAMPLE_INTERVAL: Final = 0.05
"""Seconds: once the timer is late by this, the thread takes a sample, and again after each."""

LIMIT: Final = 0.1
"""Seconds: a hold of this length or more is logged."""

LOG_INTERVAL: Final = 10.0
"""Seconds between two `hub_held` events. Each describes the worst hold since the one before, and
`count` is their number."""

WINDOW: Final = 60.0
"""Seconds that `last_minute_ms` looks back."""

INNERMOST: Final = 3
"""Frames of a stack that are logged."""


class Hold(NamedTuple):
    """A hold, as it is logged. The worst is the one in which the main thread used most CPU time."""

    cpu_ms: float
    duration_ms: float
    who: list[str]


NO_HOLD: Final = Hold(0.0, 0.0, [])


class Watchdog:
    """Watches the event loop of the thread that makes it.

    is_busy  returns whether the daemon has work, for the choice of the interval

    A repeating timer costs half of what a greenlet that sleeps does.
    """

    def __init__(self, logger: FilteringBoundLogger, is_busy: Callable[[], bool]) -> None:
        self.longest_ms = 0.0
        """Duration of the longest hold since the start, in milliseconds."""
        self.holds = 0
        """The number of holds of `LIMIT` or more."""
        self._log = logger
        self._is_busy = is_busy
        self._thread_id = threading.get_ident()
        self._recent: deque[tuple[float, float]] = deque()
        self._throttle = Throttle(LOG_INTERVAL)
        self._worst = NO_HOLD  # since the last event
        self._samples: Counter[str] = Counter()
        self._due = inf  # when the timer expires; the thread reads it
        self._cpu = 0.0  # CPU time of the main thread at the last call of the timer
        self._ended = threading.Event()
        loop = gevent.get_hub().loop
        self._timers = {
            interval: loop.timer(interval, interval) for interval in (BUSY_INTERVAL, IDLE_INTERVAL)
        }
        self._interval = 0.0  # of the running timer

    def __repr__(self) -> str:
        return f"<Watchdog longest {self.longest_ms:.0f} ms, {self.holds} holds>"

    @property
    def last_minute_ms(self) -> float:
        """Duration of the longest hold that ended in the last minute, in milliseconds."""
        self._forget(monotonic())
        return self._recent[0][1] if self._recent else 0.0

    def start(self) -> None:
        """Begin to watch. Raises RuntimeError if no thread can be started."""
        self._start_timer(BUSY_INTERVAL)
        threading.Thread(target=self._sample, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching. May be called at any time, and again."""
        self._ended.set()
        for timer in self._timers.values():
            timer.stop()
            timer.close()
        self._timers.clear()

    # -- the timer ---------------------------------------------------------------------------

    def _start_timer(self, interval: float) -> None:
        for timer in self._timers.values():
            timer.stop()
        self._interval = interval
        self._cpu = thread_time()
        self._due = monotonic() + interval
        self._timers[interval].start(self._expired)

    def _expired(self) -> None:
        now = monotonic()
        if now > self._due:
            self._note(now, now - self._due, self._cpu)
        interval = BUSY_INTERVAL if self._is_busy() else IDLE_INTERVAL
        if interval != self._interval:
            self._start_timer(interval)
            return
        self._cpu = thread_time()
        self._due = now + interval

    def _note(self, now: float, late: float, cpu_before: float) -> None:
        late_ms = late * 1000
        self.longest_ms = max(self.longest_ms, late_ms)
        # Those that a later one exceeds are dropped, so that the first one is the longest.
        self._forget(now)
        while self._recent and self._recent[-1][1] <= late_ms:
            self._recent.pop()
        self._recent.append((now, late_ms))
        samples, self._samples = self._samples, Counter()
        if late < LIMIT:
            return
        self.holds += 1
        who = [stack for stack, _times in samples.most_common(1)]
        cpu_ms = (thread_time() - cpu_before) * 1000
        self._worst = max(self._worst, Hold(round(cpu_ms, 3), round(late_ms, 3), who))
        count = self._throttle.count(now)
        if count:
            worst, self._worst = self._worst, NO_HOLD
            # Otherwise the machine was busy with other processes: nothing to correct here.
            is_ours = worst.cpu_ms * 2 >= worst.duration_ms
            level = WARNING if is_ours else INFO
            self._log.log(level, "hub_held", **worst._asdict(), count=count)

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - WINDOW:
            self._recent.popleft()

    # -- the thread --------------------------------------------------------------------------

    def _sample(self) -> None:
        pause = SAMPLE_INTERVAL
        while not self._ended.wait(pause):
            left = self._due + SAMPLE_INTERVAL - monotonic()
            if left <= 0:
                frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001 - made for this
                if frame is not None:
                    self._samples[describe(frame)] += 1
                del frame  # a reference would keep all its variables alive
            pause = min(max(left, SAMPLE_INTERVAL), IDLE_INTERVAL + SAMPLE_INTERVAL)


def describe(frame: FrameType | None) -> str:
    """Return the innermost frames as `file:line function < caller`, without any values."""
    named: list[str] = []
    while frame is not None and len(named) < INNERMOST:
        code = frame.f_code
        file = "/".join(code.co_filename.rsplit("/", 2)[-2:])
        named.append(f"{file}:{frame.f_lineno} {code.co_name}")
        frame = frame.f_back
    return " < ".join(named)
