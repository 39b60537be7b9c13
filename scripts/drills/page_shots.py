# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes pictures of the status page in headless Chromium: 3 hosts and 200, light, dark, phone.

The page, its policy and its transport are the real daemon's. The numbers shown are made up (but
through the same structs and series), as real ones would take 15 minutes to fill the charts.

    scripts/drill page_shots FOLDER
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
from pathlib import Path
from struct import pack
from typing import TYPE_CHECKING

import msgspec
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

from harness import free_port, network

from lonc_gevent.admin.history import LENGTH, RECENT, Series, Step, milliseconds, unpack
from lonc_gevent.admin.status import Charts, HostDetail, HostStatus, Status, Totals, badness
from lonc_gevent.backend.stats import DURATION_BOUNDS, estimate

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

SMALL, LARGE = 3, 200
SLOW = range(51, 58)
"""Steps in which all was slow."""
CHROMIUM = "/usr/bin/chromium"
WIDTHS = {"desktop": (1280, 900), "tablet": (820, 1100), "phone": (390, 844)}


def series(load: float, chance: random.Random, *, down_since: int = LENGTH) -> Series:
    """Make 15 minutes of a host that gets some `load` requests a second."""
    made = Series()
    for number in range(LENGTH):
        wave = 1 + 0.35 * math.sin(number / 9 + load) + chance.uniform(-0.12, 0.12)
        ended = int(load * 10 * max(wave, 0))
        lost = ended // 10 if number >= down_since else 0
        counts = [0] * (len(DURATION_BOUNDS) + 1)
        slow = 3 if number in SLOW else 0
        for bucket, share in ((0, 0.55), (1, 0.3), (2 + slow, 0.12), (5 + slow // 2, 0.03)):
            counts[bucket] = 0 if number >= down_since else int(ended * share)
        queue = int(load / 3 * chance.random()) if slow else 0
        if ended:
            ok = 0 if number >= down_since else ended
            made.add(Step(number, ok, lost, queue, pack(f"{len(counts)}I", *counts)))
    return made


def charts(made: Series) -> Charts:
    """Draw them as the daemon does."""
    last = LENGTH - 1
    return Charts(
        step_s=10.0,
        rate=[n / 10 for n in made.line(last, lambda s: s.ok + s.con_lost)],
        con_lost=made.line(last, lambda s: s.con_lost),
        queue=made.line(last, lambda s: s.queue),
        p50_ms=made.quantiles(last, 0.5),
        p99_ms=made.quantiles(last, 0.99),
    )


def host(number: int, made: Series, **fields: object) -> HostStatus:
    """Make a host's entry that fits its series."""
    late = [step for step in made.steps if step.number > LENGTH - RECENT]
    buckets = [sum(column) for column in zip(*map(unpack, late), strict=True)]
    ended = sum(step.ok + step.con_lost for step in made.steps)
    lost = sum(step.con_lost for step in late)
    values: dict[str, object] = {
        "host": f"{('msul', 'nscll', 'fsul', 'uiuc')[number % 4]}{number}",
        "domain": ("msu", "nscl", "fsu", "uiuc")[number % 4],
        "role": "library" if number % 5 else "access",
        "address": f"lon{number}.{('msu', 'nscl', 'fsu', 'uiuc')[number % 4]}.example.edu",
        "port": 5663,
        "state": "up" if ended else "idle",
        "error": None,
        "next_attempt": None,
        "next_attempt_in_s": None,
        "connecting": 0,
        "idle": 1 + number % 4,
        "busy": number % 2,
        "queue": 0,
        "oldest_wait_s": 0.0,
        "requests": ended * 37,
        "ok": ended * 37 - lost,
        "con_lost": lost,
        "lost_lately": lost,
        "rate": made.done(LENGTH - 1, made.last) / 60,
        "p50_ms": milliseconds(estimate(buckets, 0.5)),
        "p99_ms": milliseconds(estimate(buckets, 0.99)),
        "delayed_waiting": 0,
        "delayed_quarantined": 0,
        "delayed_replayed": 0,
        "recent": list(map(int, made.line(LENGTH - 1, lambda s: s.ok + s.con_lost, 3)))
        if ended
        else [],
    }
    return msgspec.convert({**values, **fields}, HostStatus)


def network_of(count: int) -> tuple[Status, dict[str, HostDetail]]:
    """Make up a network in which not all is well."""
    chance = random.Random(count)
    down = {
        "state": "down",
        "error": "unreachable: 192.0.2.7 port 5663: Connection refused",
        "next_attempt": "2026-01-01T12:00:00Z",
        "next_attempt_in_s": 17.4,
        "idle": 0,
        "busy": 0,
        "delayed_waiting": 12,
    }
    steps: list[Step] = []
    details = {}
    hosts = []
    for number in range(1, count + 1):
        load = chance.expovariate(1 / 12) if number % 3 or count == SMALL else 0.0
        fields: dict[str, object] = {}
        down_since = LENGTH
        if number in (2, 90, 91):
            fields, down_since, load = down, 68, max(load, 4.0)
        if number == 14:
            fields = {"queue": 214, "oldest_wait_s": 8.2, "busy": 5, "idle": 0}
        if number == 33:
            fields = {"delayed_quarantined": 2, "delayed_replayed": 1240}
        if number == 52:
            fields = {"state": "paused", "idle": 0, "busy": 0, "queue": 31, "oldest_wait_s": 21.0}
        if number == 70:
            fields = {"state": "connecting", "connecting": 1, "idle": 0, "busy": 0}
        made = series(load, chance, down_since=down_since)
        steps += made.steps
        entry = host(number, made, **fields)
        hosts.append(entry)
        details[entry.host] = HostDetail(host=entry, charts=charts(made))
    total = Series()
    for step in sorted(steps, key=lambda step: step.number):
        total.add(step)
    whole = charts(total)
    hosts.sort(key=badness)
    states: dict[str, int] = {}
    for entry in hosts:
        states[entry.state] = states.get(entry.state, 0) + 1

    def added(name: str) -> int:
        return sum(getattr(entry, name) for entry in hosts)

    status = Status(
        version="1.0.0",
        pid=4711,
        host_id="msul1",
        shard=None,
        phase="ready",
        timestamp="2026-01-01T12:00:00Z",
        uptime_s=363_000.0,
        clients=48,
        log_lines_dropped=0,
        hub_longest_hold_ms=31.4,
        hub_longest_hold_last_minute_ms=2.1,
        hub_holds=0,
        certificate_expires=None,
        totals=Totals(
            hosts=count,
            states=states,
            connections=added("idle") + added("busy") + added("connecting"),
            busy=added("busy"),
            queue=added("queue"),
            oldest_wait_s=max(entry.oldest_wait_s for entry in hosts),
            requests=added("requests"),
            con_lost=added("con_lost"),
            lost_lately=added("lost_lately"),
            rate=sum(entry.rate for entry in hosts),
            p50_ms=whole.p50_ms[-1],
            p99_ms=whole.p99_ms[-1],
            delayed_waiting=added("delayed_waiting"),
            delayed_quarantined=added("delayed_quarantined"),
            delayed_replayed=added("delayed_replayed"),
        ),
        charts=whole,
        hosts=hosts,
    )
    return status, details


def shoot(browser: Browser, address: str, folder: Path, count: int) -> list[str]:
    """Take this network's pictures; return what the browser complained about."""
    status, details = network_of(count)
    complaints: list[str] = []

    def answer_status(route: Route) -> None:
        route.fulfill(body=msgspec.json.encode(status), content_type="application/json")

    def answer_host(route: Route) -> None:
        detail = details[route.request.url.rpartition("/")[2]]
        route.fulfill(body=msgspec.json.encode(detail), content_type="application/json")

    for scheme in ("light", "dark"):
        for name, (width, height) in WIDTHS.items():
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="light" if scheme == "light" else "dark",
                device_scale_factor=2 if name == "phone" else 1,
            )
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.route("**/status", answer_status)
            page.route("**/hosts/*", answer_host)
            page.goto(address)
            page.wait_for_selector("tr.host")
            page.screenshot(path=folder / f"{count}-{scheme}-{name}.png")
            if scheme == "light":
                page.click("tr.host button.id")
                page.wait_for_selector(".detail dd")
                page.screenshot(
                    path=folder / f"{count}-{scheme}-{name}-open.png", full_page=count == SMALL
                )
            overflow = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            if overflow > 0:
                complaints.append(f"{count} {name}: {overflow} px too wide")
            page.close()
    return complaints


def main() -> int:
    """Take all pictures."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "page_shots")
    folder.mkdir(parents=True, exist_ok=True)
    complaints = []
    listen = f"127.0.0.1:{free_port()}"
    with (
        tempfile.TemporaryDirectory(prefix="lonc") as directory,
        network(Path(directory), tables={"admin": {"listen": listen}}) as net,
        sync_playwright() as playwright,
    ):
        net.add("msul1", start=False)
        net.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for count in (SMALL, LARGE):
            complaints += shoot(browser, f"http://{listen}/", folder, count)
        browser.close()
    for complaint in complaints:
        print("complaint:", complaint)
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
