# SPDX-License-Identifier: GPL-2.0-or-later
"""The status document and the details of a host, for a terminal or a pipe."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from lonc_gevent.admin.status import LONG_WAIT
from lonc_gevent.printable import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lonc_gevent.admin.status import HostDetail, HostStatus, Status

STATES: Final = {
    "up": ("●", "green"),
    "idle": ("○", "dim"),
    "connecting": ("◌", "cyan"),
    "paused": ("‖", "yellow"),
    "stopping": ("◌", "yellow"),
    "down": ("✕", "bold red"),
}
"""State -> its sign and its colour: never the colour alone."""

LEVELS: Final = {"well": ("✓", "green"), "trouble": ("!", "yellow"), "bad": ("✕", "bold red")}
"""Level of the verdict -> its sign and its colour."""

ALIKE: Final = 4
"""Hosts that are down for the same cause, from which on they share one line."""

MEDIUM, WIDE = 100, 150
"""Columns of a terminal from which on the table has more columns."""

LEAST_LATENCY: Final = 0.5
"""Milliseconds; the least bound of the histograms: no shorter time is known."""

_HOUR, _MINUTE = 3600, 60
_PLAIN_COUNTS: Final = 100_000
_LONG: Final = 10_000


def render(
    status: Status, *, width: int, height: int = 0, only: Callable[[HostStatus], bool]
) -> Group:
    """Return the document as headline, reasons and a table of hosts, the worst first.

    width   columns of the terminal; 0 for a pipe: nothing is cut then
    height  lines of the terminal, at most so many are returned; 0 for no limit
    only    returns whether a host gets a line; the others are counted
    """
    head = _headline(status)
    shown = [host for host in status.hosts if only(host)]
    rows = list(_rows(shown, status.hosts))
    room = max(height - len(head) - 3, 1) if height else len(rows)
    parts: list[Any] = [*head, Text()]
    if rows:
        parts.append(_table(rows[:room], width))
    left = len(status.hosts) - sum(number for _, number in rows[:room])
    if left:
        more = "more" if rows[room:] else "healthy"
        parts.append(Text(f"{left} {more} {'host' if left == 1 else 'hosts'} (see --all)", "dim"))
    return Group(*parts)


def _rows(
    hosts: Iterable[HostStatus], everyone: Sequence[HostStatus]
) -> Iterable[tuple[HostStatus | list[HostStatus], int]]:
    """Yield hosts, or lists of those that are down for the same cause, each with its number."""
    alike: dict[str | None, list[HostStatus]] = defaultdict(list)
    for host in everyone:
        alike[host.cause if host.state == "down" else None].append(host)
    for host in hosts:
        group = alike[host.cause] if host.cause and host.state == "down" else []
        if len(group) < ALIKE:
            yield host, 1
        elif group[0] is host:
            yield group, len(group)


def _table(rows: Sequence[tuple[HostStatus | list[HostStatus], int]], width: int) -> Table:
    """Return the table, with as many of its columns as the width allows."""
    columns = ["HOST", "STATE", "SINCE", "QUEUE", "LOST", "DELAYED", "WHY"]
    if not 0 < width < MEDIUM:
        columns[5:5] = ["CONN", "P50", "P99"]
    if not 0 < width < WIDE:
        columns[-1:-1] = ["REQUESTS", "REPLY", "PEER"]
    left = ("HOST", "STATE", "PEER", "WHY")
    table = Table(
        *(
            Column(
                name,
                justify="left" if name in left else "right",
                no_wrap=True,
                overflow="ellipsis",
                ratio=3 if name == "WHY" else None,
                max_width=24 if name == "HOST" and 0 < width < WIDE else None,
            )
            for name in columns
        ),
        box=None,
        expand=width > 0,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold",
    )
    for hosts, _ in rows:
        cells = _cells(hosts) if isinstance(hosts, list) else _cells([hosts])
        table.add_row(*(cells[name] for name in columns))
    return table


def _cells(hosts: list[HostStatus]) -> dict[str, Text | str]:
    """Return the cells of one host, or of several that are down for one cause, by column."""
    host, one = hosts[0], len(hosts) == 1

    def total(field: str) -> int:
        return sum(getattr(each, field) for each in hosts)

    sign, style = STATES.get(host.state, ("?", ""))
    queue = Text("-")
    if total("queue"):
        wait = max(each.oldest_wait_s for each in hosts)
        queue = Text(f"{count(total('queue'))} {seconds(wait)}", "yellow")
    waiting, held = total("delayed_waiting"), total("delayed_quarantined")
    delayed = Text(count(waiting) if waiting or held else "-")
    if held:
        delayed = Text(f"{count(waiting)} {count(held)}!", "yellow")
    lost = total("lost_lately")
    names = ", ".join(each.host for each in hosts[:20]) + (", …" if hosts[20:] else "")
    return {
        "HOST": escape(host.host) if one else f"{len(hosts)} hosts",
        "STATE": Text(f"{sign} {escape(host.state)}", style),
        "SINCE": seconds(max(each.since_s for each in hosts)),
        "QUEUE": queue,
        "LOST": Text(count(lost) if lost else "-", "yellow" if lost else ""),
        "CONN": f"{total('idle')}+{total('busy')}",
        "P50": latency(host.p50_ms) if one else "-",
        "P99": latency(host.p99_ms) if one else "-",
        "DELAYED": delayed,
        "REQUESTS": count(total("requests")),
        "REPLY": "-" if not one or host.last_reply_s is None else seconds(host.last_reply_s),
        "PEER": escape(host.peer or "-") if one else "-",
        "WHY": escape(_why(host) if one else f"{host.cause}: {names}"),
    }


def _why(host: HostStatus) -> str:
    """Return the cause of a host's trouble in a few words."""
    if host.state == "down":
        return host.cause or ""
    causes = [f"{n} {reason.replace('_', ' ')}" for reason, n in host.lost_by.items()]
    if not host.lost_lately:
        causes.clear()
    if host.oldest_wait_s > LONG_WAIT and host.state != "paused":
        causes.append(f"all {host.busy} connections busy")
    if host.delayed_quarantined:
        causes.append("quarantine: see lonc-gevent delayed list")
    return ", ".join(causes)


def _headline(status: Status) -> list[Text]:
    """Return the first lines: the daemon, the verdict with its reasons, all hosts together."""
    totals, verdict = status.totals, status.verdict
    part = f" · shard {status.shard}" if status.shard else ""
    first = Text.assemble(
        (f"lonc {escape(status.host_id)}", "bold"),
        f"{escape(part)} · {escape(status.phase)} · up {seconds(status.uptime_s)}",
        f" · pid {status.pid} · {status.clients} clients",
    )
    lines = [first]
    for level, text in [
        (verdict.level, verdict.headline),
        *((reason.level, reason.text) for reason in verdict.reasons[1:]),
    ]:
        sign, style = LEVELS.get(level, ("?", ""))
        lines.append(Text(f"{sign} {escape(text)}", style))
    lines.append(
        Text(
            f"hosts {totals.hosts} · {totals.rate:g}/s · p50 {latency(totals.p50_ms)},"
            f" p99 {latency(totals.p99_ms)} ms · {count(totals.queue)} waiting"
        )
    )
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines


def render_host(detail: HostDetail) -> Group:
    """Return all that is known of one host, and its last changes of state."""
    host = detail.host
    sign, style = STATES.get(host.state, ("?", ""))
    facts = [
        ("state", f"{host.state} since {host.since} ({seconds(host.since_s)})"),
        ("error", host.error),
        ("next try", host.next_attempt_in_s and f"in {seconds(host.next_attempt_in_s)}"),
        ("address", f"{host.address} port {host.port}"),
        ("connected to", host.peer and f"{host.peer}, security {host.security}"),
        ("connections", f"{host.busy} busy, {host.idle} idle, {host.connecting} connecting"),
        ("last reply", host.last_reply_s and f"{seconds(host.last_reply_s)} ago"),
        ("queue", host.queue and f"{host.queue}, oldest {seconds(host.oldest_wait_s)}"),
        ("requests", f"{host.requests}, {host.con_lost} lost, {host.lost_lately} in 5 minutes"),
        ("lost by", ", ".join(f"{reason} {n}" for reason, n in host.lost_by.items())),
        ("latency", f"p50 {latency(host.p50_ms)}, p99 {latency(host.p99_ms)} ms"),
        ("delayed", f"{host.delayed_waiting} waiting, {host.delayed_quarantined} in quarantine"),
    ]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for name, text in facts:
        if text:
            table.add_row(Text(f"  {name}", "dim"), escape(str(text)))
    parts: list[Any] = [Text(f"{sign} {escape(host.host)}", style), table]
    for change in reversed(detail.changes):
        error = f"  {change.error}" if change.error else ""
        parts.append(Text(escape(f"  {change.at}  {change.state:<8}{error}")))
    return Group(*parts)


def count(number: int) -> str:
    """Return a count in at most six characters."""
    if number < _PLAIN_COUNTS:
        return str(number)
    value = float(number)
    for unit in ("k", "M", "G", "T"):
        value /= 1000
        if value < 1000:  # noqa: PLR2004 - the next unit's size
            return f"{value:.3g}{unit}" if value < 999.5 else f"{value:.0f}{unit}"  # noqa: PLR2004
    return f"{value:.0f}T"


def seconds(number: float) -> str:
    """Return a time span in at most five characters."""
    if number < 10:  # noqa: PLR2004 - one digit and a tenth
        return f"{number:.1f}s"
    if number < 2 * _MINUTE:
        return f"{number:.0f}s"
    if number < 2 * _HOUR:
        return f"{number / _MINUTE:.0f}m"
    if number < 48 * _HOUR:
        return f"{number / _HOUR:.0f}h"
    return f"{number / _HOUR / 24:.0f}d"


def latency(milliseconds: float | None) -> str:
    """Return milliseconds, or seconds with their unit, in at most five characters."""
    if milliseconds is None:
        return "-"
    if milliseconds < LEAST_LATENCY:
        return f"<{LEAST_LATENCY:g}"
    if milliseconds < 10:  # noqa: PLR2004 - one digit and hundredths
        return f"{milliseconds:.2f}"
    if milliseconds < 100:  # noqa: PLR2004 - two digits and a tenth
        return f"{milliseconds:.1f}"
    return f"{milliseconds:.0f}" if milliseconds < _LONG else f"{milliseconds / 1000:.0f}s"
