# SPDX-License-Identifier: GPL-2.0-or-later
"""All queries of the dashboard, in a real Prometheus that scrapes a real daemon."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from harness import Client, free_port, wait_until

if TYPE_CHECKING:
    from harness import Network

CONFIG = Path(__file__).resolve().parents[2] / "config"

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no prometheus (Debian: prometheus)"
)

SCRAPES = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ["%s"]
scrape_configs: [{job_name: lonc, static_configs: [{targets: ["%s"]}]}]
"""


def queries() -> list[str]:
    """Return the dashboard's queries, with its variables filled in."""
    dashboard = json.loads((CONFIG / "grafana-dashboard.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    found += [note["expr"] for note in dashboard["annotations"]["list"]]
    values = {"$__rate_interval": "10s", "$instance": ".*", "$host": ".*", "$job": "lonc"}
    for name, value in values.items():
        found = [query.replace(name, value) for query in found]
    return found


def test_every_query_of_the_dashboard_has_data(net: Network, tmp_path: Path) -> None:
    """With a host up, a host down, losses, a queue, delayed files and a restart in place."""
    listen, port = f"127.0.0.1:{free_port()}", free_port()
    net.tables["admin"] = {"listen": listen}
    net.tables["delayed"] = {"settle": 0.0, "scan_interval": 0.5}
    net.add("up")
    net.add("down", start=False)
    net.add("paused")
    daemon = net.start()
    rules = tmp_path / "prometheus.yml"
    rules.write_text(SCRAPES % (CONFIG / "prometheus-alerts.yml", listen))
    prometheus = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={rules}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    missing = queries()
    turn = 0

    def ask(query: str) -> list[Any]:
        address = f"http://127.0.0.1:{port}/api/v1/query?{urlencode({'query': query})}"
        with urlopen(address, timeout=5) as answer:
            result: list[Any] = json.load(answer)["data"]["result"]
        return result

    def has_all() -> bool:
        """Let each figure change; return whether all queries have had data."""
        nonlocal turn
        turn += 1
        net.ask("up", b"ping")
        net.ask("down", b"ping")
        for host in ("up", "down"):
            (net.sockets / "delayed" / f"1700000000.{turn:06d}.1.ping.{host}").write_bytes(
                b"ping\n"
            )
        daemon.send_signal(signal.SIGUSR1)  # one attempt for the host that is down
        missing[:] = [query for query in missing if not ask(query)]
        return not missing

    try:
        wait_until(lambda: answers(port), "Prometheus answers")
        wait_until(lambda: ask("up == 1"), "Prometheus has scraped the daemon")
        daemon.send_signal(signal.SIGHUP)
        net.wait_for("ready", times=2)
        assert net.command("pause", "paused").returncode == 0
        with Client(net.sockets / "paused") as waiting:
            waiting.send(b"ping\n")
            wait_until(has_all, f"data for all queries; {missing}", timeout=28)
    finally:
        prometheus.kill()
        prometheus.wait()


def answers(port: int) -> bool:
    """Return whether Prometheus answers on this port."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5):
            return True
    except OSError:
        return False
