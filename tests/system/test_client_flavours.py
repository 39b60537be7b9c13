# SPDX-License-Identifier: GPL-2.0-or-later
"""The client library in every kind of web process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from harness import PATIENCE, Process, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Network

SUPPORT = Path(__file__).parents[1] / "support"
FLAVOURS = ["sync", "threads", "gevent", "asyncio", "fork", "gunicorn-sync", "gunicorn-gevent"]
AT_ONCE = 32
LOST = {"ConLostError", "NoDaemonError", "DisconnectedError"}


class Program:
    """flavours.py as the web process."""

    def __init__(self, flavour: str, net: Network) -> None:
        self.flavour = flavour
        self.sockets = str(net.sockets)

    def _start(self, job: dict[str, Any]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(SUPPORT / "flavours.py"), self.flavour],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(SUPPORT.parents[1])},
            text=True,
        )
        assert process.stdin
        process.stdin.write(json.dumps({"sockets": self.sockets, **job}))
        process.stdin.close()
        process.stdin = None  # communicate() would write to it
        return process

    def calls(self, *calls: tuple[str, str, float], **user: Any) -> list[str]:
        """Make all these calls, at once if the flavour can; return the outcomes."""
        with self._start({"calls": calls, **user}) as process:
            output, _ = process.communicate(timeout=PATIENCE * 2)
        outcomes: list[str] = json.loads(output)
        return outcomes

    @contextlib.contextmanager
    def loops(self, host: str, stop: Path) -> Iterator[list[dict[str, Any]]]:
        """Send requests in a loop meanwhile; afterwards the list has the outcomes."""
        reports: list[dict[str, Any]] = []
        with self._start({"host": host, "stop": str(stop)}) as process:
            try:
                yield reports
            finally:
                stop.touch()
                output, _ = process.communicate(timeout=PATIENCE * 2)
        reports += json.loads(output)


class Gunicorn:
    """A gunicorn that serves flavours.py."""

    def __init__(self, worker: str, net: Network) -> None:
        pytest.importorskip("gunicorn")
        self.sockets = str(net.sockets)
        self.url = f"http://127.0.0.1:{free_port()}/"
        options = ["--bind", self.url[7:-1], "--chdir", str(SUPPORT), "--worker-class", worker]
        # A sync worker does one thing at a time, a gevent worker all of them.
        options += ["--workers", "4" if worker == "sync" else "1", "--log-level", "warning"]
        # A worker that gets TERM while it starts ignores it, and is killed after this.
        options += ["--no-control-socket", "--graceful-timeout", "5"]
        self.process = Process("gunicorn", *options, "flavours:application")
        wait_until(self._answers, "gunicorn answers")

    def _answers(self) -> bool:
        assert self.process.running, self.process.stderr
        with contextlib.suppress(OSError):
            return bool(self._post("nobody", "ping", 1.0))
        return False

    def _post(self, host: str, request: str, timeout: float, **user: Any) -> str:
        job = {"sockets": self.sockets, "call": [host, request, timeout], **user}
        data = json.dumps(job).encode()
        with urllib.request.urlopen(self.url, data, PATIENCE * 2) as answer:  # noqa: S310 - ours
            outcome: str = json.load(answer)
        return outcome

    def calls(self, *calls: tuple[str, str, float], **user: Any) -> list[str]:
        """Make all these calls concurrently, each in an HTTP request of its own."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return list(threads.map(lambda call: self._post(*call, **user), calls))

    @contextlib.contextmanager
    def loops(self, host: str, stop: Path) -> Iterator[list[dict[str, Any]]]:
        """Send requests in a loop meanwhile; afterwards the list has the outcomes."""
        reports: list[dict[str, Any]] = []

        def loop(report: dict[str, Any]) -> None:
            number = 0
            while not stop.exists():
                number += 1
                outcome = self._post(host, f"echo:{number}", 10.0)
                last = "ok" if outcome == str(number) else outcome.strip("<>")
                report["last"] = last
                report["outcomes"][last] = report["outcomes"].get(last, 0) + 1

        made: list[dict[str, Any]] = [{"outcomes": {}, "last": ""} for _ in range(4)]
        threads = [threading.Thread(target=loop, args=(report,)) for report in made]
        for thread in threads:
            thread.start()
        try:
            yield reports
        finally:
            stop.touch()
            for thread in threads:
                thread.join(PATIENCE)
        reports += made


@pytest.fixture(params=FLAVOURS)
def web(request: pytest.FixtureRequest, net: Network) -> Iterator[Program | Gunicorn]:
    """Give a web process of each flavour, and a daemon with one host up and one down."""
    net.pool["max_connections"] = AT_ONCE
    net.tables["admin"] = {"stop_timeout": 0.5}  # what is mute stays mute
    net.add("msul2")
    net.add("down", start=False)
    net.start()
    flavour: str = request.param
    if not flavour.startswith("gunicorn"):
        yield Program(flavour, net)
        return
    gunicorn = Gunicorn(flavour.partition("-")[2], net)
    try:
        yield gunicorn
        assert gunicorn.process.end(signal.SIGTERM) == 0
    finally:
        gunicorn.process.close()


def test_each_request_gets_its_own_reply(web: Program | Gunicorn) -> None:
    texts = [f"{number}-" + "x" * (number * 997) for number in range(AT_ONCE * 2)]

    assert web.calls(*(("msul2", f"echo:{text}", 20.0) for text in texts)) == texts


def test_concurrent_requests_wait_concurrently(web: Program | Gunicorn) -> None:
    """Wherever the kind of process allows it."""
    count = 4 if isinstance(web, Program) and web.flavour in ("sync", "fork") else AT_ONCE
    began = time.monotonic()

    outcomes = web.calls(*(("msul2", f"delay:400:{number}", 20.0) for number in range(count)))

    assert outcomes == [str(number) for number in range(count)]
    assert time.monotonic() - began < 0.4 * AT_ONCE * 0.75


def test_mute_and_slow_replies_time_out(web: Program | Gunicorn) -> None:
    began = time.monotonic()

    outcomes = web.calls(("msul2", "fault:mute", 0.5), ("msul2", "fault:drip:200:abcdefgh", 0.5))

    assert outcomes == ["<TimedOutError>"] * 2
    assert time.monotonic() - began < PATIENCE / 3


def test_a_host_that_is_down_and_a_lost_reply_are_con_lost(web: Program | Gunicorn) -> None:
    outcomes = web.calls(
        ("down", "ping", 20.0),
        ("msul2", "fault:drop-middle:abcdef", 20.0),
        ("msul2", "ping", 20.0),
        ("nobody", "ping", 20.0),
    )

    assert outcomes == ["<ConLostError>", "<ConLostError>", "msul2", "<UnknownHostError>"]


def test_requests_during_a_restart_are_lost_but_not_mixed_up(
    web: Program | Gunicorn, net: Network, short_path: Path
) -> None:
    """After the restart, requests are answered again."""
    lond = net.londs["msul2"]
    with web.loops("msul2", short_path / "stop") as reports:
        wait_until(lambda: len(lond.received) > 100, "the loops send requests")
        for number in (signal.SIGTERM, signal.SIGKILL):
            assert net.daemon
            net.daemon.end(number)
            net.daemon.close()
            net.start()
            seen = len(lond.received)
            wait_until(lambda seen=seen: len(lond.received) > seen + 100, "the loops send again")  # type: ignore[misc]

    outcomes = {name for report in reports for name in report["outcomes"]}
    assert outcomes <= {"ok"} | LOST
    assert [report["last"] for report in reports] == ["ok"] * len(reports)


def test_a_restart_in_place_loses_no_request(
    web: Program | Gunicorn, net: Network, short_path: Path
) -> None:
    lond = net.londs["msul2"]
    with web.loops("msul2", short_path / "stop") as reports:
        wait_until(lambda: len(lond.received) > 100, "the loops send requests")
        for times in (2, 3):
            assert net.daemon
            net.daemon.send_signal(signal.SIGHUP)
            net.wait_for("ready", times=times)
            seen = len(lond.received)
            wait_until(lambda seen=seen: len(lond.received) > seen + 100, "the loops send again")  # type: ignore[misc]

    assert {name for report in reports for name in report["outcomes"]} == {"ok"}


def test_a_user_without_permission_gets_an_error_of_its_own(
    web: Program | Gunicorn, net: Network
) -> None:
    user: dict[str, Any] = {"uid": 65534} if os.geteuid() == 0 else {}
    (net.sockets / "msul2").chmod(0)

    assert web.calls(("msul2", "ping", 5.0), **user) == ["<PermissionDeniedError>"]
