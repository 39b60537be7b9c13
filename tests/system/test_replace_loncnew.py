# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/howto/replace-loncnew.md, followed to the letter on a made-up LON-CAPA server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import Client, Lond, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "howto" / "replace-loncnew.md").read_text(encoding="utf-8")

LONCNEW = r"""#!/usr/bin/perl
# A stand-in: one socket for each host, a pid file, and an answer without lond.
use strict; use warnings; use IO::Socket::UNIX;
my ($dir, $logs, @ids) = @ARGV ? @ARGV : qw(@DIR@/sockets @DIR@/logs msul1 msul2);
open(my $pid, '>', "$logs/lonc.pid") or die; print $pid "$$\n"; close $pid;
for my $id (@ids) {
    next if fork;
    unlink "$dir/$id";
    my $server = IO::Socket::UNIX->new(Local => "$dir/$id", Listen => 10) or die;
    while (my $client = $server->accept) {
        while (my $line = <$client>) { print $client "$id\n"; $client->flush; }
    }
}
sleep 1 while 1;
"""

LONCONTROL = """#!/bin/sh
# A stand-in: starts loncnew unless a living process is in its pid file.
pid=$(cat @DIR@/logs/lonc.pid 2> /dev/null)
if [ -n "$pid" ] && kill -0 $pid 2> /dev/null; then exit 0; fi
setsid @DIR@/loncnew < /dev/null > /dev/null 2>&1 &
"""

SUPERVISOR = """#!/bin/sh
case $1 in
start)
    setsid @PYTHON@ -m lonc_gevent run --config @DIR@/lonc.toml < /dev/null > @DIR@/events 2>&1 &
    while ! grep -q '"ready"' @DIR@/events; do sleep 0.05; done ;;
stop)
    pid=$(cat @DIR@/logs/lonc.pid)
    kill $pid
    while kill -0 $pid 2> /dev/null; do sleep 0.05; done ;;
esac
"""


class Server:
    """A LON-CAPA server in a directory: configuration, loncnew, loncontrol, and web processes."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        for name in ("sockets", "logs", "html/lon-status", "conf"):
            (directory / name).mkdir(parents=True)
        (directory / "hosts.tab").write_text(
            "msul1:msu:library:localhost\nmsul2:msu:access:localhost\n"
        )
        names = {"lonTabDir": "", "lonSockDir": "/sockets", "lonDaemons": "", "lonDocRoot": "/html"}
        lines = [f"PerlSetVar {name} {directory}{path}\n" for name, path in names.items()]
        (directory / "conf" / "loncapa_apache.conf").write_text("".join(lines))
        (directory / "conf" / "loncapa.conf").write_text(
            "PerlSetVar lonHostID msul1\nPerlSetVar loncAllowInsecure 1\n"
            f"PerlSetVar londPort {port}\n"
        )
        self.script("loncnew", LONCNEW)
        self.script("loncontrol", LONCONTROL)
        self.script("supervisor", SUPERVISOR)
        self.answers: list[bytes] = []
        self.longest = 0.0
        self._stopped = threading.Event()
        self._web = threading.Thread(target=self._ask)

    def script(self, name: str, text: str) -> None:
        """Write a program."""
        path = self.directory / name
        text = text.replace("@DIR@", str(self.directory))
        path.write_text(text.replace("@PYTHON@", sys.executable))
        path.chmod(0o755)

    @property
    def pid(self) -> int:
        """The pid in lonc.pid."""
        return int((self.directory / "logs" / "lonc.pid").read_text())

    @property
    def is_ours(self) -> bool:
        """Whether the process in lonc.pid is Python, so ours; the other is Perl."""
        try:
            return "python" in str(Path(f"/proc/{self.pid}/exe").readlink())
        except FileNotFoundError:
            return False

    def run(self, section: str) -> float:
        """Run the steps of a section; return how many seconds they took."""
        parts = {part.split("\n")[0]: part for part in re.split(r"(?m)^## ", PAGE)}
        settings, *preparation = re.findall(r"(?s)```sh\n(.*?)```", parts["Prepare"])
        values = {
            "LONC": f"{sys.executable} -m lonc_gevent",
            "CONFIG": self.directory / "lonc.toml",
            "CONF": self.directory / "conf",
            "DAEMONS": self.directory,
            "START": f"{self.directory}/supervisor start",
            "STOP": f"{self.directory}/supervisor stop",
            "LONCONTROL": self.directory / "loncontrol",
        }
        for name, value in values.items():
            settings, count = re.subn(rf"(?m)^{name}=.*$", f'{name}="{value}"', settings)
            assert count == 1, name
        own = re.findall(r"(?s)```sh\n(.*?)```", parts[section])
        steps = "\n".join(preparation if section == "Prepare" else own)
        begun = time.monotonic()
        subprocess.run(["bash", "-euc", f"{settings}\n{steps}"], check=True, timeout=60, cwd="/")
        return time.monotonic() - begun

    def start_web(self) -> None:
        """Start a web process."""
        self._web.start()

    def stop_web(self) -> None:
        """Stop it."""
        self._stopped.set()
        self._web.join()

    def _ask(self) -> None:
        """Send requests as lonnet does: ten attempts to connect, then con_lost."""
        while not self._stopped.is_set():
            begun = time.monotonic()
            self.answers.append(self._reply())
            self.longest = max(self.longest, time.monotonic() - begun)
            time.sleep(0.01)

    def _reply(self) -> bytes:
        for _ in range(10):
            with suppress(OSError), Client(self.directory / "sockets" / "msul2") as client:
                client.send(b"ping\n")
                return client.line()
            time.sleep(1)
        return b"con_lost\n"


@pytest.fixture
def server(short_path: Path) -> Iterator[Server]:
    if shutil.which("perl") is None:
        pytest.skip("there is no perl here")
    lond = Lond("msul1", short_path, "--id", "msul2", "--client-id", "msul1").start()
    made = Server(short_path, lond.port)
    subprocess.run([short_path / "loncontrol"], check=True)
    wait_until((short_path / "sockets" / "msul2").is_socket, "loncnew runs")
    try:
        yield made
    finally:
        with suppress(OSError, ValueError):
            os.killpg(made.pid, 15)
        lond.kill()


def test_page_is_followed_to_the_letter_both_ways(server: Server) -> None:
    """No request of a web process that behaves as lonnet is lost."""
    server.start_web()
    try:
        server.run("Prepare")
        programs = [server.is_ours]  # the preparation leaves loncnew alone
        took = server.run("Replace")
        programs.append(server.is_ours)
        subprocess.run([server.directory / "loncontrol"], check=True)
        programs.append(server.is_ours)  # loncontrol leaves the living process alone
        wait_until(lambda: b"msul2\n" in server.answers[-3:], "web processes are served")
        ours = len(server.answers)
        back = server.run("Go back")
        wait_until(lambda: not server.is_ours, "loncnew runs again")
        wait_until(lambda: len(server.answers) > ours + 20, "web processes are served")
    finally:
        server.stop_web()
    lost = [answer for answer in server.answers if answer != b"msul2\n"]
    report = (
        f"{len(server.answers)} requests, {took:.1f} s, back {back:.1f} s, {server.longest:.1f}"
    )
    assert programs == [False, True, True]
    assert not lost, (lost, report)
    assert not (server.directory / "loncnew.original").exists()
