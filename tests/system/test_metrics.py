# SPDX-License-Identifier: GPL-2.0-or-later
"""`/metrics`: every name of the contract, and what is built upon the names."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from certificates import Authority
from prometheus_client.parser import text_string_to_metric_families
from unixhttp import http

if TYPE_CHECKING:
    from harness import Network
    from prometheus_client.core import Metric

CONFIG = Path(__file__).resolve().parents[2] / "config"

CONTRACT = {
    "lonc_requests_total": {"host", "outcome"},
    "lonc_request_duration_seconds_bucket": {"host", "le"},
    "lonc_request_duration_seconds_sum": {"host"},
    "lonc_request_duration_seconds_count": {"host"},
    "lonc_queue_length": {"host"},
    "lonc_queue_wait_seconds_bucket": {"host", "le"},
    "lonc_connections": {"host", "state"},
    "lonc_connection_attempts_total": {"host", "result"},
    "lonc_clients": set(),
    "lonc_delayed_files": {"host", "state"},
    "lonc_delayed_replayed_total": {"host"},
    "lonc_log_lines_dropped_total": set(),
    "lonc_build_info": {"version"},
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
    "process_open_fds": set(),
    # beyond the contract
    "lonc_queue_oldest_seconds": {"host"},
    "lonc_host_state": {"host", "state"},
    "lonc_next_attempt_timestamp_seconds": {"host"},
    "lonc_hub_holds_total": set(),
    "lonc_hub_longest_hold_seconds": {"of"},
}
"""Samples by name, and their labels."""

UP: dict[str, set[str]] = {"up": {"instance", "job"}, "ALERTS": {"alertname", "alertstate"}}
"""What Prometheus itself adds."""


def scrape(net: Network) -> list[Metric]:
    """Read the metrics as Prometheus does."""
    return list(text_string_to_metric_families(http(net, "/metrics").body.decode()))


def value(families: list[Metric], name: str, **labels: str) -> float:
    """Return one sample's value."""
    (found,) = (
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )
    return found


def test_every_name_of_the_contract(net: Network) -> None:
    """Each metric is there, with its labels, each family once, all samples under its TYPE."""
    for number in range(12):  # more than one piece
        net.add(f"h{number}", start=number == 4)
    net.start()
    assert net.ask("h3", b"ping") == b"con_lost"
    net.ask("h4", b"ping")

    text = http(net, "/metrics").body.decode()
    families = list(text_string_to_metric_families(text))

    labels = {s.name: set(s.labels) for family in families for s in family.samples}
    assert {name: labels.get(name) for name in CONTRACT} == CONTRACT
    types = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(types) == len(set(types))
    assert all(family.documentation for family in families)
    hosts = {s.labels["host"] for f in families for s in f.samples if s.name == "lonc_queue_length"}
    assert hosts == {f"h{number}" for number in range(12)}


def test_the_values(net: Network) -> None:
    """Requests are counted by outcome; buckets add up; a host that is down says so."""
    net.pool["retry_backoff_min"] = net.pool["retry_backoff_max"] = 60.0
    net.add("msul2")
    net.add("msul9", start=False)
    net.start()
    for _ in range(5):
        net.ask("msul2", b"ping")
    net.ask("msul9", b"ping")

    families = scrape(net)

    assert value(families, "lonc_requests_total", host="msul2", outcome="ok") == 5
    assert value(families, "lonc_requests_total", host="msul9", outcome="con_lost") == 1
    name = "lonc_request_duration_seconds"
    assert value(families, f"{name}_count", host="msul2") == 5
    assert value(families, f"{name}_bucket", host="msul2", le="+Inf") == 5
    assert 0 < value(families, f"{name}_sum", host="msul2") < 5
    assert value(families, "lonc_queue_wait_seconds_count", host="msul2") == 5
    assert value(families, "lonc_connections", host="msul2", state="idle") == 1
    assert value(families, "lonc_connection_attempts_total", host="msul2", result="ok") == 1
    failed = {"host": "msul9", "result": "unreachable"}
    assert value(families, "lonc_connection_attempts_total", **failed) >= 1
    assert value(families, "lonc_host_state", host="msul9", state="down") == 1
    assert value(families, "lonc_host_state", host="msul2", state="down") == 0
    started = value(families, "process_start_time_seconds")
    at = value(families, "lonc_next_attempt_timestamp_seconds", host="msul9")
    assert started < at < started + 120


def test_gzip(net: Network) -> None:
    """A scraper that takes gzip gets it, and the same text."""
    net.add("msul2", start=False)
    net.start()

    response = http(net, "/metrics", Accept_Encoding="gzip")

    assert response.headers["Content-Encoding"] == "gzip"
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b'lonc_queue_length{host="msul2"} 0.0' in gzip.decompress(response.body)


# -- what is built upon the names -------------------------------------------------------------


def used_names(expression: str) -> set[str]:
    """Return the metrics that an expression of PromQL uses."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)", "", bare)
    words = set(re.findall(r"\b[a-z_][a-z0-9_]*\b(?!\s*\()", bare))
    return words - {"and", "or", "unless", "bool", "job", "instance", "host"}


def used_labels(expression: str) -> set[tuple[str, str]]:
    """Return the labels with fixed values that an expression matches."""
    return set(re.findall(r'(\w+)=~?"([a-z_]+)"', expression))


def alerts() -> list[dict[str, Any]]:
    """Return all rules of the alerts file."""
    groups = yaml.safe_load((CONFIG / "prometheus-alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    """Return all expressions of alerts and dashboard."""
    dashboard = json.loads((CONFIG / "grafana-dashboard.json").read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    notes = [note["expr"] for note in dashboard["annotations"]["list"]]
    queries = [
        re.sub(r"label_values\((.*), \w+\)", r"\1", variable["query"]["query"])
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ]
    return [rule["expr"] for rule in alerts()] + panels + notes + queries


def test_used_names_of_an_expression() -> None:
    """The test's own reading of PromQL finds names, and neither functions nor labels."""
    expression = (
        'sum by (host, le) (rate(lonc_a_bucket{host=~"$h",x="y"}[5m])) > 0 unless on (job) up == 1'
    )

    assert used_names(expression) == {"lonc_a_bucket", "up"}
    assert used_labels(expression) == {("x", "y")}


def test_alerts_and_dashboard_use_what_there_is(net: Network) -> None:
    """Each expression uses only metrics that the daemon has, and only values they can take."""
    authority = Authority(net.directory)
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    net.add("msul2", start=False, security="ssl")
    net.add("msul3")
    net.start()
    net.wait_for("host_down")
    net.ask("msul2", b"ping")
    net.ask("msul3", b"ping")
    families = list(scrape(net))
    samples = [sample for family in families for sample in family.samples]
    gauges = {family.name for family in families if family.type == "gauge"}  # may have no sample
    names = {sample.name for sample in samples} | gauges | set(UP)
    values = {pair for sample in samples for pair in sample.labels.items()}
    values |= {("job", "lonc"), ("alertstate", "firing")}

    for expression in expressions():
        assert used_names(expression), expression
        assert used_names(expression) <= names, expression
        assert used_labels(expression) <= values, expression


def test_each_alert_has_a_description() -> None:
    """Each alert has a severity, a summary and what to do; names are unique."""
    rules = alerts()

    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_dashboard_panels_do_not_overlap() -> None:
    """Each panel has its own place in Grafana's grid of 24 columns, and its own number."""
    panels = json.loads((CONFIG / "grafana-dashboard.json").read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool (Debian: prometheus)")
def test_promtool_accepts_alerts_and_metrics(net: Network) -> None:
    net.add("msul2", start=False)
    net.start()
    net.wait_for("host_down")
    for arguments, given in (
        (["check", "rules", str(CONFIG / "prometheus-alerts.yml")], b""),
        (["check", "metrics"], http(net, "/metrics").body),
    ):
        done = subprocess.run(
            ["promtool", *arguments],
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, done.stdout.decode()
