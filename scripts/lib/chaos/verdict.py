# SPDX-License-Identifier: GPL-2.0-or-later
"""What must hold after a chaos run, and at any moment of it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from .scene import POOL

if TYPE_CHECKING:
    from .clients import Clients, Outcome
    from .scene import Scene

SLACK: Final = 2.0
"""Seconds beyond the daemon's limits, for a busy machine. Less than any of the limits, so that one
that is kept only after twice its time is noticed."""

LONGEST: Final[float] = POOL["reply_timeout"] + POOL["queue_timeout"] + SLACK
"""Seconds that a request may take, whatever is wrong with its lond."""

HELD_MS: Final = 100.0
"""Milliseconds of its own CPU time for which the daemon must not block its event loop."""

BUGS: Final = frozenset({"client_failed", "keeper_failed", "delayed_failed"})
"""Events that report a bug of the daemon."""


def problems(scene: Scene, clients: Clients) -> list[str]:
    """Compare what the clients got with what the londs did; return what must not be."""
    found = [f"wrong reply: {asked!r} got {got!r}" for asked, got in clients.wrong]
    outcomes = tuple(clients.outcomes)
    found += _lond_side(scene, outcomes)
    found += [
        f"{o.what} after {o.ended - o.began:.1f} s: {o.request[:30]!r}"
        for o in outcomes
        if o.what == "stuck" or _took_too_long(scene, o)
    ]
    found += [
        f"{o.what} although the daemon was there: {o.request[:30]!r}"
        for o in outcomes
        if o.what in ("cut", "none") and not _away(scene, o)
    ]
    found += [f"stderr: {text}" for text in scene.stderr if text]
    logged = _logged(scene)
    found += [f"event {name}" for name in sorted(BUGS & {each["event"] for each in logged})]
    found += [
        f"the event loop was blocked for {each['cpu_ms']:.0f} ms by {each['who']}"
        for each in logged
        if each["event"] == "hub_held" and each["cpu_ms"] >= HELD_MS
    ]
    return found


def events(scene: Scene) -> Counter[str]:
    """Count the events that were logged, by name."""
    return Counter(each["event"] for each in _logged(scene))


def _logged(scene: Scene) -> list[dict[str, Any]]:
    lines = [*scene.lines, *scene.daemon.lines]
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def _lond_side(scene: Scene, outcomes: tuple[Outcome, ...]) -> list[str]:
    found = []
    for host, record in scene.received.items():
        received = record.times()
        mine = (b"echo:%s:" % host.encode(), b"eget:%s:" % host.encode(), b"big:", b"ping")
        found += [f"sent to {host}: {r[:40]!r}" for r in received if not r.startswith(mine)]
        found += [
            f"sent twice to {host}: {request[:40]!r}"
            for request, times in received.items()
            if times > 1 and request.startswith(mine[:2]) and b":delayed" not in request
        ]
        found += [
            f"answered, but never received by {host}: {o.request[:40]!r}"
            for o in outcomes
            if o.host == host and o.what == "ok" and not received[o.request]
        ]
    return found


def _took_too_long(scene: Scene, outcome: Outcome) -> bool:
    took = outcome.ended - outcome.began
    return took > LONGEST and took > LONGEST + _away(scene, outcome)


def _away(scene: Scene, outcome: Outcome) -> float:
    """Return for how many seconds of that time this run had ended the daemon."""
    return sum(
        max(min(outcome.ended, end + 1.0) - max(outcome.began, begin), 0.0)
        for begin, end in scene.deaths
    )


def delayed_problems(scene: Scene, written: dict[str, list[bytes]]) -> list[str]:
    """Return which delayed requests were accepted and never received."""
    found = []
    for host, requests in written.items():
        received = scene.received[host].times()
        lost = [request for request in requests if not received[request]]
        found += [f"delayed request lost: {request!r}" for request in lost]
    return found
