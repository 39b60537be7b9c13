# SPDX-License-Identifier: GPL-2.0-or-later
"""The alert rules, each in a situation in which it fires and in one in which it does not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

RULES = Path(__file__).resolve().parents[2] / "config" / "prometheus-alerts.yml"

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool (Debian: prometheus)"
)


class Case(NamedTuple):
    """Series (values from minute 0, one a minute) with which an alert fires, and does not.

    at  the minute at which it fires, or does not
    """

    fires: dict[str, str]
    silent: dict[str, str]
    at: int = 20


UP = {"lonc_queue_length{host='h'}": "0x200"}
DOWN = 'lonc_host_state{host="%s",state="down"}'
ALL_DOWN = {DOWN % n: "1x200" for n in "abc"} | {
    f'lonc_queue_length{{host="{n}"}}': "0x200" for n in "abc"
}
ONE_DOWN = ALL_DOWN | {DOWN % "b": "0x200", DOWN % "c": "0x200"}
WAITING = 'lonc_delayed_files{host="h",state="waiting"}'
REPLAYED = 'lonc_delayed_replayed_total{host="h"}'
LOST = 'lonc_requests_total{host="h",outcome="con_lost"}'
OK = 'lonc_requests_total{host="h",outcome="ok"}'
SLOW = {
    'lonc_request_duration_seconds_bucket{host="h",le="1"}': "0+%dx30",
    'lonc_request_duration_seconds_bucket{host="h",le="10"}': "0+100x30",
    'lonc_request_duration_seconds_bucket{host="h",le="+Inf"}': "0+100x30",
}


def slow(fast: int) -> dict[str, str]:
    """Return a histogram in which so many of 100 requests a minute take under a second."""
    return {name: text % fast if "%" in text else text for name, text in SLOW.items()}


CASES: dict[str, Case] = {
    "LoncNotRunning": Case({"up": "1 0x30"}, {"up": "1x30"}),
    "LoncBad": Case(
        {'lonc_verdict{level="bad"}': "1x30"},
        {'lonc_verdict{level="bad"}': "1x30"} | ALL_DOWN,  # LoncManyHostsDown fires
        at=30,
    ),
    "LoncTrouble": Case(
        {'lonc_verdict{level="trouble"}': "1x90"},
        {'lonc_verdict{level="trouble"}': "1x90"} | ONE_DOWN,  # LoncHostDown fires
        at=80,
    ),
    "LoncHostDown": Case(ONE_DOWN, ALL_DOWN),
    "LoncManyHostsDown": Case(ALL_DOWN, ONE_DOWN),
    "LoncRequestsLost": Case(
        {OK: "0+90x30", LOST: "0+10x30"},
        {OK: "0+90x30", LOST: "0+10x30", DOWN % "h": "1x30"},
    ),
    "LoncQueueOld": Case(
        {'lonc_queue_oldest_seconds{host="h"}': "9x30"},
        {'lonc_queue_oldest_seconds{host="h"}': "0.5x30"},
    ),
    "LoncSlow": Case(slow(50), slow(100)),
    "LoncPaused": Case(
        {'lonc_host_state{host="h",state="paused"}': "1x30"},
        {'lonc_host_state{host="h",state="paused"}': "1x5 0x25"},
    ),
    "LoncDelayedQuarantined": Case(
        {'lonc_delayed_files{host="h",state="quarantined"}': "4x30"},
        {'lonc_delayed_files{host="h",state="quarantined"}': "0x30"},
    ),
    "LoncDelayedUnknownFiles": Case(
        {"lonc_delayed_unknown_files": "2x30"}, {"lonc_delayed_unknown_files": "0x30"}
    ),
    "LoncDelayedDirectoryUnusable": Case(
        {"lonc_delayed_directory_usable": "0x30"}, {"lonc_delayed_directory_usable": "1x30"}
    ),
    "LoncDelayedStuck": Case(
        {WAITING: "3x200", REPLAYED: "0x200"},
        {WAITING: "_x75 3x125", REPLAYED: "_x75 0x125"},  # a target that is not old
        at=120,
    ),
    "LoncClientsDenied": Case(
        {"lonc_clients_denied_total": "0x10 3x20"}, {"lonc_clients_denied_total": "3x30"}
    ),
    "LoncLogLinesDropped": Case(
        {"lonc_log_lines_dropped_total": "0x10 3x20"}, {"lonc_log_lines_dropped_total": "3x30"}
    ),
    "LoncHubHeld": Case({"lonc_hub_holds_total": "0+1x30"}, {"lonc_hub_holds_total": "0x10 2x20"}),
    "LoncCertificateExpires": Case(
        {"lonc_certificate_expiry_timestamp_seconds": "86400x30"},
        {"lonc_certificate_expiry_timestamp_seconds": "8640000x30"},
    ),
    "LoncReloadRefused": Case(
        {"lonc_config_last_reload_successful": "0x30"},
        {"lonc_config_last_reload_successful": "1x30"},
    ),
    "LoncPartMissing": Case(
        {'lonc_part_missing{part="daemon.pid_file"}': "1x30"},
        {'lonc_part_missing{part="daemon.pid_file"}': "1x2 _x28"},
    ),
    "LoncDescriptorsRunOut": Case(
        {"process_open_fds": "90x30", "process_max_fds": "100x30"},
        {"process_open_fds": "50x30", "process_max_fds": "100x30"},
    ),
}


def test_each_alert_has_a_case() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]

    assert set(CASES) == {rule["alert"] for group in groups for rule in group["rules"]}


def labelled(series: str) -> str:
    """Return a series with the labels that Prometheus adds."""
    name, _, rest = series.partition("{")
    return f'{name}{{job="lonc",instance="i"' + (f",{rest}" if rest else "}")


@pytest.mark.parametrize("alert", CASES)
def test_alert_fires_when_it_should_and_only_then(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    tests: list[dict[str, Any]] = [
        {
            "interval": "1m",
            "input_series": [
                {"series": labelled(name), "values": values} for name, values in series.items()
            ],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) > bool 0',
                    "eval_time": f"{case.at}m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
            ],
        }
        for series, fires in ((case.fires, True), (case.silent, False))
    ]
    path = tmp_path / "alerts.yml"
    path.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests})
    )

    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
