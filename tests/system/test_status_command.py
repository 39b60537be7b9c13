# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent status`: a table that fits, JSON, a redrawn screen, and no daemon."""

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
from statuses import document, host
from unixhttp import http

from lonc_gevent.admin.status import HostStatus, Status
from lonc_gevent.backend.pool_state import PoolState
from lonc_gevent.cli.status import PIPE_WIDTH
from lonc_gevent.cli.table import STATES, count, latency, render, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Network


def lines_of(status: Status, *, width: int = 80, height: int = 0) -> list[str]:
    """Draw a document without colours."""
    console = Console(width=width or PIPE_WIDTH, highlight=False, color_system=None)
    with console.capture() as capture:
        only = lambda host: host.level != "well"  # noqa: E731
        console.print(render(status, width=width, height=height, only=only))
    return [line.rstrip() for line in capture.get().splitlines()]


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
    many = [msgspec.structs.replace(each, level="trouble", state="up") for each in many]
    return msgspec.structs.replace(status, hosts=many, totals=totals, shard="3/4")


def test_verdict_and_its_reasons_come_first(status: Status) -> None:
    status = document(
        host("slow", queue=480, oldest_wait_s=59.0, lost_lately=1210, delayed_quarantined=4),
        *(host(f"h{n}") for n in range(9)),
        certificate_expires_in_s=2 * 86400.0,
        delayed_error="read-only file system",
    )

    lines = lines_of(status)

    assert lines[1:6] == [
        "! 1,210 requests lost in the last 5 minutes: slow",
        "! 480 requests waiting, for up to 59 s: slow",
        "! Delayed directory unusable: read-only file system",
        "! 4 delayed requests in quarantine: slow",
        "! The certificate expires in 2 days",
    ]
    assert lines[8].split() == ["HOST", "STATE", "SINCE", "QUEUE", "LOST", "DELAYED", "WHY"]
    assert lines[9].split()[:9] == ["slow", "●", "up", "0.0s", "480", "59s", "1210", "0", "4!"]
    assert "connections busy, quarantine: " in lines[9]
    assert lines[10] == "9 healthy hosts (see --all)"


def test_table_of_a_real_daemon(net: Network, status: Status) -> None:
    """The host that is down has a line, the healthy ones are counted."""
    result = net.command("status")

    out = result.stdout.decode()
    lines = out.splitlines()
    assert result.returncode == 0
    assert "\x1b" not in out, "colours only on a terminal"
    assert lines[0].startswith("lonc msul1 · ready · up ")
    assert lines[1] == "✕ 1 of 3 hosts in use is down" or lines[1].startswith("! 1 of 3 hosts is")
    down = next(line for line in lines if line.startswith("msul9"))
    assert re.match(r"msul9 +✕ down +\d", down)
    assert "unreachable: Connection refused" in down
    assert lines[-1] == "2 healthy hosts (see --all)"
    everyone = net.command("status", "--all").stdout.decode()
    assert re.search(r"^msul2 +● up .* 1\+0 .* 127\.0\.0\.1 port \d+", everyone, re.MULTILINE)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_large_numbers_fit(status: Status, width: int) -> None:
    """With the largest numbers each row ends within the terminal, and no figure is cut."""
    lines = lines_of(swollen(status, 200), width=width)

    assert max(map(cell_len, lines)) <= width
    rows = [line for line in lines if line.startswith("averylon")]
    assert len(rows) == 200
    for line in rows:
        assert "10000 60s" in line
        assert "99999 999!" in line


def test_nothing_is_cut_in_a_pipe(status: Status) -> None:
    status = document(host("h" * 60, state="down", cause="c" * 300, error="c: " + "e" * 300))

    text = "\n".join(lines_of(status, width=0))

    assert "h" * 60 in text
    assert "c" * 300 in text


def test_hosts_that_are_down_for_one_cause_share_a_line() -> None:
    down = {"state": "down", "cause": "unreachable: Connection refused", "lost_lately": 2}
    hosts = [host(f"h{n:03}", **down) for n in range(155)]
    alone = host("z", state="down", cause="refused: lond does not know this server")

    lines = lines_of(document(*hosts, alone, host("up")), width=0)

    rows = lines[lines.index(next(line for line in lines if line.startswith("HOST"))) + 1 :]
    assert len(rows) == 3
    assert rows[0].startswith("155 hosts ")
    assert "310" in rows[0].split()
    assert "unreachable: Connection refused: h000, h001, " in rows[0]
    assert rows[1].startswith("z ")


def test_low_screen_shows_the_worst(status: Status) -> None:
    """On a screen of 24 lines the worst hosts are shown, and how many are not."""
    lines = lines_of(swollen(status, 200), height=24)

    assert len(lines) <= 24
    assert re.match(r"18\d more hosts", lines[-1])


def test_terminal_of_latin_1_gets_ascii_signs(net: Network, status: Status) -> None:
    result = net.command("status", env={"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"})

    assert (result.returncode, result.stderr) == (0, b"")
    assert re.search(rb"^msul9 +x down", result.stdout, re.MULTILINE)
    assert " · ready · ".encode("latin-1") in result.stdout


def test_host_is_shown_with_its_changes_of_state(net: Network, status: Status) -> None:
    """State, since when, why, where, what was lost to what; then the last changes."""
    net.londs["msul2"].kill()
    net.ask("msul2", b"ping")
    net.ask("msul2", b"ping")

    text = net.command("status", "msul2").stdout.decode()

    assert re.search(r"^  state +down since 20\d\d-\S+Z \(\d", text, re.MULTILINE)
    assert re.search(r"^  error +unreachable: 127.0.0.1 port \d+: Conn", text, re.MULTILINE)
    assert re.search(r"^  connected to +127.0.0.1 port \d+, security insecure", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) < 120, "no blanks are added in a pipe"
    assert re.search(r"^  last reply +\d+\.\ds ago", text, re.MULTILINE)
    assert re.search(r"^  lost by +host_down \d", text, re.MULTILINE)
    assert re.search(r"Z  down +unreachable.*\n.*Z  (up|idle) ", text)


def test_unknown_host_names_the_most_similar(net: Network, status: Status) -> None:
    for command in ("status", "pause", "doctor"):
        result = net.command(command, "mlus2")

        assert result.returncode == 2
        assert b"no host 'mlus2' is served here; did you mean msul2" in result.stderr


@pytest.mark.parametrize(("paused", "code", "word"), [((), 0, "OK"), (("msul2",), 1, "WARNING")])
def test_check_exits_as_a_plugin_does(
    net: Network, paused: tuple[str, ...], code: int, word: str
) -> None:
    net.add("msul2")
    net.add("msul3")
    net.start()
    for name in paused:
        assert net.command("pause", name).returncode == 0

    result = net.command("status", "--check")

    assert result.returncode == code
    assert result.stdout.startswith(f"{word}: ".encode())
    assert b" | down=0 lost=0 waiting=0 oldest=" in result.stdout
    assert net.command("status", "--check", "msul3").returncode == 0
    assert net.command("status", "--check", "msul2").returncode == code


def test_check_without_a_verdict_exits_with_3(net: Network) -> None:
    net.add("msul2", start=False)
    net.write()
    assert net.command("status", "--check").returncode == 3

    net.config.write_text("[")
    result = net.command("status", "--check")

    assert result.returncode == 3
    assert result.stdout.startswith(b"UNKNOWN: ")


def test_every_state_has_its_own_sign() -> None:
    """A state is shown by its sign and its name, never by colour alone."""
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
    [
        (None, "-"),
        (0.256, "<0.5"),
        (0.56, "0.56"),
        (12.34, "12.3"),
        (345.6, "346"),
        (300_000.0, "300s"),
    ],
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


def test_status_without_a_daemon_fails(net: Network) -> None:
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
    made = Terminal(*command, "--watch", "--all")
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
    gone = terminal.wait_for("no daemon answers here")
    assert "last answer" in gone + terminal.wait_for("up")
    assert re.search(r"\x1b\[2(;32)?m● up", terminal.wait_for("● up")), "the last picture, dimmed"
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


def test_watch_ends_for_the_key_q(terminal: Terminal) -> None:
    terminal.wait_for("● up")

    os.write(terminal.end, b"q")

    assert terminal.process.wait(PATIENCE) == 0
    terminal.wait_for("\x1b[?1049l")


def test_watch_ends_at_an_interrupt(terminal: Terminal) -> None:
    """A second Ctrl-C while the first one is under way changes nothing: exit 0, no traceback."""
    terminal.wait_for("● up")
    for _ in range(3):
        terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(PATIENCE) == 0
    assert "Traceback" not in terminal.wait_for("\x1b[?1049l")
