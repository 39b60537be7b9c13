# SPDX-License-Identifier: GPL-2.0-or-later
"""The status page in a browser at many widths, in two fonts, with the widest values.

With LONC_SCREENSHOTS set to a directory, a picture of each case is written there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from statuses import CHARTS, document, host

from lonc_gevent.admin.page import Page
from lonc_gevent.admin.status import Change, HostDetail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Route
    from playwright.sync_api import Page as Tab

    from lonc_gevent.admin.status import Status

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).resolve().parents[2] / "var" / "axe" / "node_modules/axe-core/axe.min.js"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium (Debian: chromium)")

WIDEST: dict[str, Any] = {
    "idle": 4000, "busy": 6000, "queue": 10_000, "oldest_wait_s": 119.0, "requests": 99_999,
    "con_lost": 1_234_567, "lost_lately": 99_999, "rate": 1e5, "p50_ms": 123_000.0,
    "p99_ms": 299_000.0, "delayed_waiting": 99_999, "delayed_quarantined": 999,
    "recent": [5] * 30, "recent_lost": [0] * 15 + [5] * 15, "since_s": 59 * 60.0,
    "lost_by": {"queue_timeout": 99_999, "connection_lost": 12_345},
}  # fmt: skip

DOWN: dict[str, Any] = {
    "state": "down", "idle": 0, "error": "unreachable: 10.0.0.1 port 5663: Connection refused",
    "cause": "unreachable: Connection refused", "next_attempt_in_s": 40.0, "lost_lately": 7,
    "lost_by": {"host_down": 7}, "requests_lately": 7, "since_s": 900.0,
    "recent": [3] * 30, "recent_lost": [0] * 26 + [3] * 4,
}  # fmt: skip


def healthy(number: int) -> list[Any]:
    """Make hosts that answer."""
    return [
        host(
            f"host{n:04}", requests=12_345 + n, requests_lately=50, rate=2.0, p50_ms=1.2,
            p99_ms=14.0, recent=[n % 7 + k % 5 for k in range(30)], since_s=7200.0,
        )
        for n in range(number)
    ]  # fmt: skip


SCENES: dict[str, Status] = {
    "well-3": document(*healthy(3)),
    "widest": document(
        host("averylonghostid.somewhere", state="up", **WIDEST),
        *(host(f"wide{n}.somewhere.edu", state="connecting", **WIDEST) for n in range(5)),
        *healthy(3),
    ),
    "trouble-200": document(
        *healthy(190), *(host(f"down{n}", **DOWN) for n in range(8)), host("p", state="paused"),
        certificate_expires_in_s=2 * 86400.0, log_lines_dropped_lately=12,
    ),
    "outage-200": document(*healthy(20), *(host(f"down{n:03}", **DOWN) for n in range(180))),
    "stopping": document(*healthy(3), phase="stopping"),
    "many-1000": document(*healthy(999), host("down", **DOWN)),
}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright (the dev extra)")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def show(browser: Browser, status: Status, *, query: str = "", **options: Any) -> Tab:
    """Open the page in a new tab; the answers are made of the document."""
    page = Page.load()
    tab = browser.new_page(**options)
    details = {each.host: each for each in status.hosts}

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix("http://lonc/").partition("?")[0]
        if path.startswith("hosts/"):
            change = Change(at="2026-11-28T13:00:00Z", state="down", error="refused: no")
            detail = HostDetail(
                host=details[path.removeprefix("hosts/")], charts=CHARTS, changes=[change] * 50
            )
            route.fulfill(body=msgspec.json.encode(detail), content_type="application/json")
        elif path == "status":
            route.fulfill(body=msgspec.json.encode(status), content_type="application/json")
        else:
            headers = dict(page.headers) | {"Content-Type": "text/html; charset=utf-8"}
            route.fulfill(body=page.render(status), headers=headers)

    tab.route("**/*", answer)
    tab.goto(f"http://lonc/{query}")
    if options.get("java_script_enabled", True):
        tab.get_by_role("heading", name=status.verdict.headline).wait_for()
    return tab


def picture(tab: Tab, name: str) -> None:
    """Write a picture of what is seen, if pictures are asked for."""
    if directory := os.environ.get("LONC_SCREENSHOTS"):
        tab.screenshot(path=f"{directory}/{name}.png")


CUT_OFF = """() => {
  const box = document.querySelector(".table").getBoundingClientRect();
  const cards = getComputedStyle(document.querySelector("thead")).position === "absolute";
  const cells = [...document.querySelectorAll(cards ? "tr.host td" : "tr.host td, th")];
  return cells.filter((node) => {
    const { left, right, width } = node.getBoundingClientRect();
    return width && (right > box.right + 1 || left < box.left - 1);
  }).map((node) => node.textContent);
}"""
"""Returns the texts of the cells that are not wholly within the table."""


@pytest.mark.parametrize("font", ["DejaVu Sans", "sans-serif"])
@pytest.mark.parametrize("width", [360, 390, 640, 768, 900, 1024, 1180, 1280, 1440, 1920])
def test_no_column_is_cut_off(browser: Browser, width: int, font: str) -> None:
    tab = show(browser, SCENES["widest"], viewport={"width": width, "height": 800})
    tab.evaluate(f"document.documentElement.style.setProperty('--sans', '{font}')")

    assert tab.evaluate(CUT_OFF) == []
    over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert tab.evaluate(over) == 0
    assert tab.get_by_text("999 in quarantine").first.is_visible()
    picture(tab, f"widest-{width}-{font.replace(' ', '')}")
    tab.close()


def test_worst_five_hosts_are_on_the_first_screen_of_a_phone(browser: Browser) -> None:
    tab = show(browser, SCENES["trouble-200"], viewport={"width": 390, "height": 844})

    rows = tab.locator("tr.host").all()[:5]

    bottoms = [row.bounding_box() for row in rows]
    assert all(box and box["y"] + box["height"] <= 844 for box in bottoms), bottoms
    picture(tab, "phone")
    tab.close()


def test_lines_of_a_host_that_is_down_show_its_losses(browser: Browser) -> None:
    tab = show(browser, SCENES["trouble-200"], viewport={"width": 1280, "height": 800})

    row = tab.locator("tr.host").first

    assert row.locator(".spark .lost").get_attribute("d")
    assert "unreachable: Connection refused" in row.inner_text()
    tab.close()


def test_filter_order_and_open_host_are_in_the_address(browser: Browser) -> None:
    tab = show(browser, SCENES["trouble-200"], viewport={"width": 1280, "height": 800})
    tab.get_by_role("searchbox").fill("down")
    tab.get_by_role("columnheader", name="Host").get_by_role("button").click()
    tab.get_by_role("button", name="down3").click()
    address = tab.url
    tab.close()

    again = show(browser, SCENES["trouble-200"], query=address.removeprefix("http://lonc/"))

    again.locator("#d-down3 .facts dd").first.wait_for()
    assert again.get_by_role("searchbox").input_value() == "down"
    assert again.get_by_role("columnheader", name="Host").get_attribute("aria-sort") == "ascending"
    assert again.locator("tr.host").count() == 8
    assert again.get_by_role("button", name="lonc-gevent pause down3").is_visible()
    picture(again, "open-host")
    again.close()


def test_page_without_javascript_is_a_plain_table(browser: Browser) -> None:
    status = document(*healthy(3), host("bad<b>", **DOWN))
    tab = show(browser, status, java_script_enabled=False)

    assert tab.locator("h1:visible").inner_text() == status.verdict.headline
    rows = tab.locator(".plain tbody tr, .plain tr:has(td)").all_inner_texts()
    assert len(rows) == 4
    assert rows[0].startswith("bad<b>\tdown")
    picture(tab, "no-javascript")
    tab.close()


STALE = "() => { latest = null; document.getElementById('all').classList.add('stale'); }"


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core (scripts/test installs it with npm)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("scene", [*SCENES, "stale", "open", "phone", "zoom"])
def test_axe_finds_no_violation(browser: Browser, scene: str, scheme: str) -> None:
    status = SCENES.get(scene, SCENES["trouble-200"])
    sizes = {"phone": (390, 844), "zoom": (640, 400)}
    width, height = sizes.get(scene, (1280, 800))
    tab = show(
        browser,
        status,
        query="?host=down3" if scene == "open" else "",
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        bypass_csp=True,
    )
    if scene == "stale":
        tab.unroute_all()
        tab.route("**/*", lambda route: route.abort())
        tab.get_by_role("alert").filter(has_text="No answer since").wait_for()
    if scene == "open":
        tab.locator("#d-down3 .facts dd").first.wait_for()
    picture(tab, f"axe-{scene}-{scheme}")
    tab.add_script_tag(path=AXE)

    result = tab.evaluate("axe.run()")

    found = [
        (v["id"], [node["html"][:200] for node in v["nodes"][:3]]) for v in result["violations"]
    ]
    assert found == []
    tab.close()
