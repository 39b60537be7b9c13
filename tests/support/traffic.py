# SPDX-License-Identifier: GPL-2.0-or-later
"""Steady traffic through the daemon, every reply of it checked."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, Self

from harness import PATIENCE, Client, wait_until

if TYPE_CHECKING:
    from pathlib import Path

PAUSE = 0.005
"""Seconds between two requests of one client."""

TOGETHER = 8
"""Right replies in a row that count as recovered: more than there are connections."""


class Outcome(NamedTuple):
    """What became of one request. Times are monotonic seconds."""

    began: float
    ended: float
    request: bytes
    what: str
    """ok, con_lost, or wrong."""


class Traffic:
    """Some clients that ask one unique thing after another, a connection each.

    As a context manager: they ask until it ends.
    """

    def __init__(self, path: Path, *, clients: int = 4, size: int = 200, seed: int = 0) -> None:
        self.path = path
        self.size = size
        self.outcomes: list[Outcome] = []
        self.wrong: list[tuple[bytes, bytes]] = []
        self._seed = seed
        self._stop = threading.Event()
        self._numbers = count()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE * 2)

    def _ask(self, mine: int) -> None:
        chance = random.Random(self._seed + mine)
        while not self._stop.wait(PAUSE):
            text = b"%08d:" % next(self._numbers) + b"x" * chance.randrange(self.size)
            verb = chance.choice((b"echo:", b"echo:", b"encrypt:eget:"))
            began = time.monotonic()
            try:
                with Client(self.path) as client:
                    client.send(verb + text + b"\n")
                    reply = client.line()
            except OSError as error:
                reply = b"%a" % error
            what = {text + b"\n": "ok", b"con_lost\n": "con_lost"}.get(reply, "wrong")
            if what == "wrong":
                self.wrong.append((verb + text[:20], reply[:60]))
            request = verb.removeprefix(b"encrypt:") + text
            self.outcomes.append(Outcome(began, time.monotonic(), request, what))

    # -- what a test looks at ------------------------------------------------------------------

    def wait_for(self, requests: int, what: str = "") -> None:
        """Wait until so many more requests have ended (in that way)."""
        wanted = self.number(what) + requests
        wait_until(lambda: self.number(what) >= wanted, f"{requests} requests more {what}")

    def number(self, what: str = "") -> int:
        """Return how many have ended, all or in that way."""
        return sum(not what or outcome.what == what for outcome in tuple(self.outcomes))

    def recovery(self, since: float) -> float:
        """Wait until all is well again; return the seconds from `since` to the last bad end.

        Bad is a con_lost to a request, whenever it began; well is TOGETHER good ones in a row.
        """

        def is_well() -> bool:
            last = [o.what for o in tuple(self.outcomes) if o.began >= since][-TOGETHER:]
            return last == ["ok"] * TOGETHER

        wait_until(is_well, "all is well again")
        ends = [o.ended for o in tuple(self.outcomes) if o.what != "ok" and o.ended >= since]
        first = min(o.ended for o in tuple(self.outcomes) if o.what == "ok" and o.began >= since)
        return max([first, *ends]) - since

    def check(self, received: list[bytes]) -> None:
        """Compare with what lond received: each reply its own, nothing sent twice."""
        assert not self.wrong, self.wrong[:3]
        heard = Counter(received)
        twice = [line[:30] for line, times in heard.items() if times > 1]
        assert not twice, twice[:3]
        unheard = [o.request[:30] for o in self.outcomes if o.what == "ok" and not heard[o.request]]
        assert not unheard, unheard[:3]
