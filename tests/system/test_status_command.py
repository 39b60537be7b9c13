# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent status`: a table that fits, JSON, a redrawn screen, and nobody at home."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from harness import PATIENCE, readable
from rich.cells import cell_len
from rich.console import Console
from unixhttp import http

from lonc_gevent.admin.status import HostStatus, Status
from lonc_gevent.backend.pool_state import PoolState
from lonc_gevent.cli.table import STATES, count, latency, render, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Network


def lines_of(status: Status, *, width: int = 80, height: int = 0) -> list[str]:
    """Draw a document without colours."""
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(render(status, height))
    return capture.get().splitlines()


@pytest.fixture
def status(net: Network) -> Status:
    """Give a real document of three hosts, one of them down."""
    net.add("msul2")
    net.add("msul3")
    net.add("msul9", start=False)
    net.start()
    net.ask("msul2", b"ping")
    net.ask("msul3", b"ping")
    net.ask("msul9", b"ping")
    return msgspec.json.decode(http(net, "/status").body, type=Status)


def swollen(status: Status, hosts: int) -> Status:
    """Make all numbers large and the hosts many."""
    big: dict[str, Any] = {
        "idle": 500,
        "busy": 499,
        "queue": 10_000,
        "oldest_wait_s": 59.9,
        "requests": 123_456_789,
        "con_lost": 1_234_567,
        "lost_lately": 99_999,
        "p50_ms": 298_765.0,
        "p99_ms": 299_999.0,
        "delayed_waiting": 99_999,
        "delayed_quarantined": 999,
    }
    many = [
        msgspec.structs.replace(status.hosts[0], host=f"averylonghostid{n}.somewhere", **big)
        for n in range(hosts)
    ]
    totals = msgspec.structs.replace(
        status.totals, hosts=hosts, requests=10**12, queue=10**7, lost_lately=10**6, rate=1e5
    )
    return msgspec.structs.replace(status, hosts=many, totals=totals, shard="3/4")


def test_unusable_delayed_directory_is_in_the_table(status: Status) -> None:
    """It is named whatever else the line has to show."""
    assert not any("delayed directory" in line for line in lines_of(status))

    status = msgspec.structs.replace(swollen(status, 3), delayed_error="read-only")

    assert "delayed directory unusable" in lines_of(status)[1]


def test_the_table(net: Network, status: Status) -> None:
    """The worst host comes first, each state with a sign and a word, within 80 columns."""
    result = net.command("status")

    out = result.stdout.decode()
    lines = out.splitlines()
    assert result.returncode == 0
    assert "\x1b" not in out, "colours only on a terminal"
    assert max(map(cell_len, lines)) <= 80
    assert lines[0].startswith("lonc msul1 · ready · up ")
    assert lines[1].startswith("3 hosts, 1 down")
    assert lines[3].split()[0] == "HOST"
    assert re.match(r"msul9 +✕ down ", lines[4])
    assert re.match(r"msul2 +● up +1\+0 +- +1 +0 +\d", lines[5])
    assert len(lines) == 7


def test_large_numbers_fit(status: Status) -> None:
    """With the largest numbers and 200 hosts, 80 columns hold all columns and part of each id."""
    lines = lines_of(swollen(status, 200))

    assert max(map(cell_len, lines)) <= 80
    assert len(lines) == 204
    for line in lines[4:]:
        assert line.startswith("averylon")
        assert line.rstrip().endswith("99999 999!"), line


def test_a_low_screen_shows_the_worst(status: Status) -> None:
    """On a screen of 24 lines the worst hosts are seen, and how many are not."""
    lines = lines_of(swollen(status, 200), height=24)

    assert len(lines) == 24
    assert lines[-1] == "… and 181 more"


def test_every_state_has_its_own_sign() -> None:
    """A state is told by its sign and its word, never by colour alone."""
    assert set(STATES) == {state.value for state in PoolState}
    filled = [sign for sign, _ in STATES.values()]
    assert len(set(filled)) >= len(filled) - 1


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (99_999, "99999"), (100_000, "100k"), (1_234_567, "1.23M"), (999_999, "1000k")],
)
def test_counts(number: int, text: str) -> None:
    """A count has at most six characters."""
    assert count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0.0s"), (9.94, "9.9s"), (59.9, "60s"), (600, "10m"), (86400, "24h"), (1e6, "12d")],
)
def test_time_spans(number: float, text: str) -> None:
    """A time span has one unit."""
    assert seconds(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0.256, "0.26"), (12.34, "12.3"), (345.6, "346"), (300_000.0, "300s")],
)
def test_latencies(number: float | None, text: str) -> None:
    """A latency has three digits, and says when it is in seconds."""
    assert latency(number) == text


def test_json_is_the_document(net: Network, status: Status) -> None:
    """`--json` prints what `/status` says, as one JSON object."""
    result = net.command("status", "--json")

    document = json.loads(result.stdout)
    assert result.returncode == 0
    assert [host["host"] for host in document["hosts"]] == ["msul9", "msul2", "msul3"]
    assert set(document["hosts"][0]) == set(HostStatus.__struct_fields__)
    assert set(document) == set(Status.__struct_fields__)


def test_nobody_at_home(net: Network) -> None:
    """No daemon: exit 5 and one line, in every form."""
    net.add("msul2", start=False)
    net.write()

    for options in ([], ["--json"], ["--watch"]):
        result = net.command("status", *options)
        assert result.returncode == 5
        assert result.stdout == b""
        assert result.stderr.count(b"\n") == 1
        assert b"no daemon answers here" in result.stderr


def test_json_and_watch_do_not_go_together(net: Network) -> None:
    """`--json --watch` is bad usage."""
    net.add("msul2", start=False)
    net.write()

    assert net.command("status", "--json", "--watch").returncode == 2


class Terminal:
    """A terminal of 80 by 24, and all that was written to it."""

    def __init__(self, *command: str) -> None:
        self.end, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        env = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "COLUMNS", "LINES"}}
        self.process = subprocess.Popen(
            command, stdin=other, stdout=other, stderr=other, env=env | {"TERM": "xterm-256color"}
        )
        os.close(other)
        self.output = ""

    def wait_for(self, text: str) -> str:
        """Read until the text has come; return all since the last call."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.output:
            left = deadline - time.monotonic()
            ready = readable(self.end, left)
            assert ready, f"no {text!r} in {self.output!r}"
            try:
                self.output += os.read(self.end, 65536).decode(errors="replace")
            except OSError:
                assert text in self.output
        output, self.output = self.output, ""
        return output


@pytest.fixture
def terminal(net: Network) -> Iterator[Terminal]:
    """Give a terminal that shows `status --watch` of one host."""
    net.add("msul2")
    net.start()
    command = [sys.executable, "-m", "lonc_gevent", "status", "--config", str(net.config)]
    made = Terminal(*command, "--watch")
    yield made
    made.process.kill()
    made.process.wait()
    os.close(made.end)


def test_watch_redraws_in_place(net: Network, terminal: Terminal) -> None:
    """`--watch` shows a host go down and come back, in colour, and leaves the screen as it was."""
    first = terminal.wait_for("● up")
    assert "\x1b[?1049h" in first, "the other screen, so that the scroll-back stays clean"
    assert "\x1b[32m● up" in first
    net.londs["msul2"].kill()
    with contextlib.suppress(AssertionError):
        net.ask("msul2", b"ping")
    net.ask("msul2", b"ping")
    terminal.wait_for("✕ down")
    net.londs["msul2"].start()
    net.status("msul2")  # opens the gate
    net.ask("msul2", b"ping")
    terminal.wait_for("● up")

    terminal.process.send_signal(signal.SIGINT)

    assert terminal.process.wait(PATIENCE) == 0
    terminal.wait_for("\x1b[?1049l")


def test_watch_waits_for_a_daemon_that_went_away(net: Network, terminal: Terminal) -> None:
    """A daemon that goes away is said to, and its return is seen."""
    terminal.wait_for("● up")
    assert net.daemon
    net.daemon.end()
    terminal.wait_for("no daemon answers here")
    net.daemon.close()
    net.start()
    terminal.wait_for("● up")


def test_watch_ends_while_the_daemon_hangs(net: Network, terminal: Terminal) -> None:
    """A daemon that does not answer is shown as one, and does not keep Ctrl-C from being heard."""
    terminal.wait_for("● up")
    assert net.daemon
    net.daemon.process.send_signal(signal.SIGSTOP)
    try:
        terminal.wait_for("no daemon answers here (timed out)")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(PATIENCE) == 0
    finally:
        net.daemon.process.send_signal(signal.SIGCONT)


def test_watch_hears_an_impatient_user(terminal: Terminal) -> None:
    """A second Ctrl-C while the first one is under way changes nothing: exit 0, no traceback."""
    terminal.wait_for("● up")
    for _ in range(3):
        terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(PATIENCE) == 0
    assert "Traceback" not in terminal.wait_for("\x1b[?1049l")
