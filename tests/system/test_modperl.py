# SPDX-License-Identifier: GPL-2.0-or-later
"""config/examples/modperl under Debian's apache2, with lond and daemon restarted under load."""

from __future__ import annotations

import http.client
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import threading
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from harness import free_port, wait_until
from users import only_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Network

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "examples" / "modperl"
MODULES = Path("/usr/lib/apache2/modules")
PAGES = int(os.environ.get("LONC_MODPERL_PAGES", "1200"))
BROWSERS = 6
WEB = "www-data"

CONF = """\
ServerRoot {root}
Define LONC_PERL {example}
Define LONC_SOCKETS {sockets}
Define LONC_PERM_LOG {perm_log}
LoadModule mpm_prefork_module {modules}/mod_mpm_prefork.so
LoadModule authz_core_module {modules}/mod_authz_core.so
ServerName localhost
Listen 127.0.0.1:{port}
User www-data
Group www-data
PidFile {root}/apache.pid
ErrorLog {root}/error.log
DocumentRoot {root}
StartServers 4
MaxRequestWorkers 12
MaxConnectionsPerChild 300
Include {example}/httpd.conf
"""


@pytest.fixture
def port(net: Network) -> Iterator[int]:
    """Run Apache with the example as www-data; the daemon has another user."""
    if shutil.which("apache2") is None or not (MODULES / "mod_perl.so").exists():
        pytest.skip("Debian's apache2 and libapache2-mod-perl2 are not here")
    net.directory.chmod(0o755)
    example = net.directory / "modperl"  # www-data may not read the repository
    shutil.copytree(EXAMPLE, example)
    number = free_port()
    perm_log = net.directory / "perm.log"
    net.tables["sockets"] = {"group": WEB, "allow_uids": [WEB]}
    net.tables["delayed"] = {"perm_log": str(perm_log), "settle": 0.2, "scan_interval": 0.5}
    conf = net.directory / "httpd.conf"
    conf.write_text(
        CONF.format(
            root=net.directory,
            example=example,
            sockets=net.sockets,
            perm_log=perm_log,
            modules=MODULES,
            port=number,
        )
    )
    apache = subprocess.Popen(
        ["apache2", "-f", conf, "-D", "FOREGROUND"],
        start_new_session=True,  # at its end it signals its whole process group
    )
    try:
        yield number
    finally:
        apache.terminate()
        apache.wait(20)


def get(connection: http.client.HTTPConnection, function: str, request: str) -> str:
    connection.request("GET", f"/{function}/msul2?{quote(request)}")
    return connection.getresponse().read().decode().rstrip("\n")


def is_more(number: Callable[[], int], than: int) -> bool:
    return number() > than


@only_root
def test_pages_are_right_while_lond_and_daemon_are_restarted(net: Network, port: int) -> None:
    """No page has the answer to another; each request saved for later arrives at lond once."""
    lond = net.add("msul2")
    net.start()
    numbers, enough = itertools.count(), threading.Event()
    wrong: list[tuple[str, str]] = []
    delayed: list[str] = []
    shown = {"right": 0, "con_lost": 0}

    def browse() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            while not enough.is_set():
                number = next(numbers)
                function = "critical" if number % 10 == 0 else "reply"
                text = f"{function}-{number}-x"
                answer = get(connection, function, f"echo:{text}")
                if answer == text:
                    shown["right"] += 1
                elif answer == "con_lost" and function == "reply":
                    shown["con_lost"] += 1
                elif answer == "saved for later" and function == "critical":
                    delayed.append(text)
                else:
                    wrong.append((text, answer))

    browsers = [threading.Thread(target=browse) for _ in range(BROWSERS)]
    for browser in browsers:
        browser.start()
    try:
        assert net.daemon
        for quarter in range(1, 4):
            part = PAGES * quarter // 4
            wait_until(partial(is_more, lambda: shown["right"], part), "pages", 600)
            lond.kill()
            wait_until(partial(is_more, lambda: len(delayed), len(delayed)), "one is saved", 60)
            lond.start()
            net.daemon.send_signal(signal.SIGHUP)
            net.wait_for("ready", quarter + 1)
        wait_until(lambda: shown["right"] > PAGES, "pages", 600)
    finally:
        enough.set()
        for browser in browsers:
            browser.join()
    assert not wrong
    assert delayed
    wait_until(lambda: not list((net.sockets / "delayed").glob("[0-9]*")), "all are sent", 60)
    received = [line.decode().removeprefix("echo:") for line in lond.received]
    assert not set(delayed) - set(received)
    lines = (net.directory / "perm.log").read_text().splitlines()
    codes = [line.split(":")[1] for line in lines]
    assert codes.count("S") == codes.count("D") == len(delayed), (codes, len(delayed))
    assert pwd.getpwnam(WEB).pw_uid != net.directory.stat().st_uid


@only_root
def test_apache_benchmark_gets_one_length(net: Network, port: int) -> None:
    """`ab` counts answers of another length as failed."""
    net.add("msul2")
    net.start()
    url = f"http://127.0.0.1:{port}/reply/msul2?ping"
    command = ["ab", "-q", "-n", "300", "-c", "8", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "Failed requests:        0" in done.stdout, done.stdout
    assert "Non-2xx" not in done.stdout
