# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict on the daemon: how well it is, and the reasons for it, the gravest first.

`judge` is the only place that decides. The page, `lonc-gevent status`, its exit code, `/status`
and the metric `lonc_verdict` show its result.

bad      the daemon is stopping, or more than half of the hosts that were asked lately are down
trouble  requests or an operator's files are affected, or will be soon
well     neither

A reader that gets no answer from the daemon treats it as bad (NO_ANSWER).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .status import LEVELS, LONG_WAIT, Level, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .status import HostStatus, Status

CERTIFICATE_WARNING: Final = 30 * 86400.0
"""Seconds before its end from which on the certificate is trouble."""

STUCK: Final = 3600.0
"""Seconds; a delayed request that waits for longer, while its host is not down, is trouble."""

NAMED: Final = 3
"""Hosts that a reason names."""


def judge(status: Status) -> Verdict:
    """Return the verdict on a status document; its own `verdict` is not read."""
    reasons = [Reason(level=level, code=code, text=text) for level, code, text in _find(status)]
    reasons.sort(key=lambda reason: -LEVELS.index(reason.level))  # stable: the order of _find
    if reasons:
        return Verdict(level=reasons[0].level, headline=reasons[0].text, reasons=reasons)
    hosts = status.totals.hosts
    headline = f"All {hosts} hosts are well" if hosts > 1 else "The host is well"
    return Verdict(level="well", headline=headline if hosts else "No hosts are served", reasons=[])


def host_level(host: HostStatus) -> Level:
    """Return how well a host is; its own `level` is not read."""
    if host.state == "down":
        return "bad"
    troubles = (
        host.state == "paused",
        host.lost_lately,
        host.oldest_wait_s > LONG_WAIT,
        host.delayed_quarantined,
        host.delayed_oldest_s > STUCK,
    )
    return "trouble" if any(troubles) else "well"


def _find(status: Status) -> Iterator[tuple[Level, str, str]]:
    """Yield level, code and text of each reason."""
    if status.phase != "ready":
        level: Level = "bad" if status.phase == "stopping" else "trouble"
        yield level, status.phase, f"The daemon is {status.phase}"
    yield from _hosts(status)
    yield from _requests(status)
    yield from _delayed(status)
    yield from _process(status)


def _hosts(status: Status) -> Iterator[tuple[Level, str, str]]:
    """Yield the reasons that concern the states of hosts."""
    hosts = status.hosts
    down = [host for host in hosts if host.state == "down"]
    asked = [host for host in hosts if host.requests_lately or host.queue]
    asked_down = sum(host.state == "down" for host in asked)
    if asked_down * 2 > len(asked):
        text = f"{asked_down} of {_count(len(asked), 'host')} in use {_are(asked_down)} down"
        yield "bad", "most_hosts_down", text
    if down:
        text = f"{len(down)} of {_count(len(hosts), 'host')} {_are(len(down))} down"
        yield "trouble", "hosts_down", text + _names(down)
    if paused := [host for host in hosts if host.state == "paused"]:
        text = f"{_count(len(paused), 'host')} {_are(len(paused))} paused"
        yield "trouble", "hosts_paused", text + _names(paused)


def _requests(status: Status) -> Iterator[tuple[Level, str, str]]:
    """Yield the reasons that concern requests."""
    hosts, totals = status.hosts, status.totals
    if totals.lost_lately:
        lost = [host for host in hosts if host.lost_lately]
        text = f"{_count(totals.lost_lately, 'request')} lost in the last 5 minutes"
        yield "trouble", "requests_lost", text + _names(lost)
    if totals.oldest_wait_s > LONG_WAIT:
        waiting = [host for host in hosts if host.oldest_wait_s > LONG_WAIT]
        text = f"{_count(totals.queue, 'request')} waiting, for up to {totals.oldest_wait_s:.0f} s"
        yield "trouble", "requests_wait", text + _names(waiting)


def _process(status: Status) -> Iterator[tuple[Level, str, str]]:
    """Yield the reasons that concern the daemon itself."""
    expires = status.certificate_expires_in_s
    if expires is not None and expires <= CERTIFICATE_WARNING:
        left = f"expires in {_count(int(expires // 86400), 'day')}"
        yield "trouble", "certificate", f"The certificate {left if expires > 0 else 'has expired'}"
    if status.reload_problems:
        yield "trouble", "reload_refused", f"Last reload refused: {status.reload_problems[0]}"
    for part, error in status.missing.items():
        yield "trouble", "part_missing", f"{part} is missing: {error}"
    if dropped := status.log_lines_dropped_lately:
        text = f"{_count(dropped, 'log line')} dropped in the last 5 minutes"
        yield "trouble", "log_lines_dropped", text


def _delayed(status: Status) -> Iterator[tuple[Level, str, str]]:
    """Yield the reasons that concern delayed requests."""
    if status.delayed_error:
        text = f"Delayed directory unusable: {status.delayed_error}"
        yield "trouble", "delayed_unusable", text
    if quarantined := status.totals.delayed_quarantined:
        held = [host for host in status.hosts if host.delayed_quarantined]
        text = f"{_count(quarantined, 'delayed request')} in quarantine"
        yield "trouble", "delayed_quarantined", text + _names(held)
    if status.delayed_unknown:
        text = f"{_count(status.delayed_unknown, 'delayed file')} of no known host"
        yield "trouble", "delayed_unknown", text
    stuck = [h for h in status.hosts if h.delayed_oldest_s > STUCK and h.state != "down"]
    if stuck:
        files = sum(host.delayed_waiting for host in stuck)
        text = f"{_count(files, 'delayed request')} waiting, though not for a host that is down"
        yield "trouble", "delayed_stuck", text + _names(stuck)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _names(hosts: Iterable[HostStatus]) -> str:
    """Return `: a, b, c, …` for a few hosts."""
    names = [host.host for host in hosts]
    return f": {', '.join(names[:NAMED])}{', …' if len(names) > NAMED else ''}" if names else ""
