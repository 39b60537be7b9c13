# SPDX-License-Identifier: GPL-2.0-or-later
"""The status document as a table for a terminal of 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from lonc_gevent.printable import escape

if TYPE_CHECKING:
    from lonc_gevent.admin.status import HostStatus, Status

STATES: Final = {
    "up": ("●", "green"),
    "idle": ("○", "dim"),
    "connecting": ("◌", "cyan"),
    "paused": ("‖", "yellow"),
    "stopping": ("◌", "yellow"),
    "down": ("✕", "bold red"),
}
"""State -> its sign and its colour: never the colour alone."""

SURROUNDINGS: Final = 5
"""Lines of a drawing that are not hosts, the one that says how many did not fit included."""

_HOUR, _MINUTE = 3600, 60
_PLAIN_COUNTS: Final = 100_000
_LONG: Final = 10_000


def render(status: Status, height: int = 0) -> Group:
    """Draw the document; `height` lines at most if that is not 0, the worst hosts first."""
    hosts = status.hosts
    complaints = _complaints(status)
    room = max(height - SURROUNDINGS - len(complaints), 1)
    shown = hosts[:room] if height else hosts
    table = Table(
        Column("HOST", no_wrap=True, overflow="ellipsis", ratio=1, min_width=10),
        Column("STATE", no_wrap=True),
        *(
            Column(name, justify="right", no_wrap=True)
            for name in ("CONN", "QUEUE", "REQUESTS", "LOST", "P50", "P99", "DELAYED")
        ),
        box=None,
        expand=True,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold",
        collapse_padding=True,
    )
    for host in shown:
        table.add_row(*_row(host))
    parts: list[Text | Table] = [*_headline(status), *complaints, Text(), table]
    if len(shown) < len(hosts):
        parts.append(Text(f"… and {len(hosts) - len(shown)} more", style="dim"))
    return Group(*parts)


def _headline(status: Status) -> tuple[Text, Text]:
    """Say in two lines who this is and how all is together."""
    totals = status.totals
    part = f" · shard {status.shard}" if status.shard else ""
    first = Text.assemble(
        (f"lonc {escape(status.host_id)}", "bold"),
        f"{escape(part)} · {escape(status.phase)} · up {seconds(status.uptime_s)}",
        f" · pid {status.pid}",
        f" · {status.clients} clients",
    )
    down = totals.states.get("down", 0)
    second = Text(no_wrap=True, overflow="ellipsis")
    second.append(f"{totals.hosts} hosts, ")
    second.append(f"{down} down" if down else "none down", "bold red" if down else "")
    if status.delayed_error:
        second.append(" · delayed directory unusable", "bold red")
    second.append(
        f" · {totals.rate:g}/s · p50 {latency(totals.p50_ms)}, p99 {latency(totals.p99_ms)} ms"
        f" · {count(totals.queue)} waiting"
    )
    if totals.lost_lately:
        second.append(f" · {count(totals.lost_lately)} lost", "yellow")
    return first, second


def _complaints(status: Status) -> list[Text]:
    """Return a line for each part that is missing, and one for a reload that was refused."""
    lines = [f"{part} is missing: {error}" for part, error in status.missing.items()]
    if status.reload_problems:
        lines.append(f"last reload refused: {status.reload_problems[0]}")
    return [Text(escape(line), "yellow", no_wrap=True, overflow="ellipsis") for line in lines]


def _row(host: HostStatus) -> tuple[Text | str, ...]:
    sign, style = STATES.get(host.state, ("?", ""))
    queue = Text(count(host.queue) if host.queue else "-")
    if host.queue:
        queue.append(f" {seconds(host.oldest_wait_s)}")
        queue.stylize("yellow")
    delayed = Text(count(host.delayed_waiting) if host.delayed_waiting else "-")
    if host.delayed_quarantined:
        delayed = Text(
            f"{count(host.delayed_waiting)} {count(host.delayed_quarantined)}!", style="yellow"
        )
    return (
        Text(escape(host.host)),
        Text(f"{sign} {escape(host.state)}", style=style),
        f"{host.idle}+{host.busy}",
        queue,
        count(host.requests),
        Text(count(host.con_lost), style="yellow" if host.lost_lately else ""),
        latency(host.p50_ms),
        latency(host.p99_ms),
        delayed,
    )


def count(number: int) -> str:
    """Write a count in at most six characters."""
    if number < _PLAIN_COUNTS:
        return str(number)
    value = float(number)
    for unit in ("k", "M", "G", "T"):
        value /= 1000
        if value < 1000:  # noqa: PLR2004 - the next unit's size
            return f"{value:.3g}{unit}" if value < 999.5 else f"{value:.0f}{unit}"  # noqa: PLR2004
    return f"{value:.0f}T"


def seconds(number: float) -> str:
    """Write a time span in at most five characters."""
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
    """Write milliseconds (or seconds, where that says so) in at most five characters."""
    if milliseconds is None:
        return "-"
    if milliseconds < 10:  # noqa: PLR2004 - one digit and hundredths
        return f"{milliseconds:.2f}"
    if milliseconds < 100:  # noqa: PLR2004 - two digits and a tenth
        return f"{milliseconds:.1f}"
    return f"{milliseconds:.0f}" if milliseconds < _LONG else f"{milliseconds / 1000:.0f}s"
