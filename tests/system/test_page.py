# SPDX-License-Identifier: GPL-2.0-or-later
"""The status page, as a file, and in a real headless Chromium."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from unittest.mock import Mock, patch

import msgspec
import pytest
from click.testing import CliRunner
from harness import free_port
from hypothesis import given, settings
from statuses import documents
from unixhttp import http

from lonc_gevent.admin.metrics import Metrics
from lonc_gevent.admin.page import Page
from lonc_gevent.admin.reporter import Vitals
from lonc_gevent.admin.status import LEVELS
from lonc_gevent.cli import main
from lonc_gevent.cli.table import render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Network
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

    from lonc_gevent.admin.status import Status

CHROMIUM = shutil.which("chromium")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium (Debian: chromium)")


class Elements(HTMLParser):
    """All elements of a page with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one."""
        self.found.append((tag, dict(attrs)))


def test_the_page_is_one_file() -> None:
    """Nothing is loaded from anywhere: no source, no import, no address but data."""
    html = Page.load().html.decode()
    attributes = [(tag, attrs) for tag, attrs in Elements(html).found]

    for tag, attrs in attributes:
        assert not {"src", "srcset", "style", "action", "poster"} & set(attrs), tag
        assert not any(name.startswith("on") for name in attrs), tag
        href = attrs.get("href") or "#"
        assert href.startswith(("#", "data:")), tag
    bare = html.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|@import|url\(|innerHTML|eval\(", bare)


def test_the_policy_lets_nothing_else_in(net: Network) -> None:
    """The page comes with a policy that names its own script and style, and nothing else."""
    net.add("msul2", start=False)
    net.start()

    headers = http(net, "/").headers

    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert len(re.findall(r"'sha256-[\w+/]{43}='", policy)) == 3
    assert headers["X-Content-Type-Options"] == "nosniff"


# -- in a browser ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright (the dev extra)")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def address(net: Network) -> str:
    """Start a daemon with three hosts that are well; give the address of its page."""
    listen = f"127.0.0.1:{free_port()}"
    net.tables["admin"] = {"listen": listen}
    for host in ("msul2", "msul3", "nscll1"):
        net.add(host)
    net.start()
    for host in net.hosts:
        net.ask(host, b"ping")
    return f"http://{listen}/"


@pytest.fixture
def tab(address: str, browser: Browser) -> Iterator[Tab]:
    """Open the page; the browser must find nothing to complain of."""
    made = browser.new_page()
    complaints: list[str] = []
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.on("console", lambda message: complaints.append(message.text))
    made.set_default_timeout(15_000)
    made.goto(address)
    made.get_by_role("heading", name="All 3 hosts are well").wait_for()
    yield made
    made.close()
    assert [c for c in complaints if "ERR_CONNECTION_REFUSED" not in c] == []


@needs_chromium
def test_page_shows_a_refused_reload_until_one_succeeds(net: Network, tab: Tab) -> None:
    text = net.config.read_text()
    net.config.write_text(text + '["<b>"]\n')
    assert net.command("reload").returncode == 2
    tab.get_by_text("Last reload refused: ").wait_for()

    net.config.write_text(text)
    assert net.command("reload").returncode == 0

    tab.get_by_text("Last reload refused: ").wait_for(state="detached")


@needs_chromium
def test_a_host_goes_down_and_comes_back(net: Network, tab: Tab) -> None:
    """Without a reload the page shows a host go down, first of all, and come back, and says so."""
    loaded = tab.evaluate("performance.timeOrigin")
    news = tab.locator("#news")
    assert tab.locator("tr.host").first.locator("button").inner_text() == "msul2"

    net.londs["nscll1"].kill()
    net.ask("nscll1", b"ping")
    net.ask("nscll1", b"ping")
    tab.get_by_role("heading", name="1 of 3 hosts is down").wait_for()

    worst = tab.locator("tr.host").first
    assert worst.locator("button").inner_text() == "nscll1"
    assert worst.locator(".state").inner_text() == "down"
    assert worst.locator(".state use").get_attribute("href") == "#s-down"
    assert "unreachable" in worst.locator(".why").first.inner_text()
    assert news.inner_text() == "nscll1 is down"
    assert tab.title() == "1 of 3 hosts is down: nscll1 · lonc msul1"

    net.londs["nscll1"].start()
    net.status("nscll1")  # opens the gate
    net.ask("nscll1", b"ping")
    tab.get_by_role("heading", name="lost in the last 5 minutes: nscll1").wait_for()

    assert news.inner_text() == "nscll1 is up again"
    assert tab.evaluate("performance.timeOrigin") == loaded


@needs_chromium
def test_the_page_by_keyboard(net: Network, tab: Tab) -> None:
    """`/` leads to the search, Tab to a host, Enter opens its charts; focus outlives a redraw."""
    tab.keyboard.press("/")
    tab.keyboard.type("nscl library")
    tab.locator("#counted", has_text="1 of 3").wait_for()
    assert [row.inner_text() for row in tab.locator("tr.host button").all()] == ["nscll1"]

    for _ in range(1 + tab.locator("th .sort:visible").count()):  # each column can be sorted by
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    tab.locator(".detail .facts dd").first.wait_for()

    button = tab.get_by_role("button", name="nscll1", exact=True)
    assert button.get_attribute("aria-expanded") == "true"
    assert "127.0.0.1 port" in tab.locator(".detail .facts").inner_text()
    for _ in range(2):
        tab.wait_for_event("response", lambda response: response.url.endswith("/hosts/nscll1"))
    assert tab.evaluate("document.activeElement.textContent") == "nscll1"
    outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "the focus can be seen"

    tab.keyboard.press("/")
    tab.keyboard.press("Control+a")
    tab.keyboard.type("nobody")
    tab.get_by_text("No host matches.").wait_for()


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_a_screen_reader_finds_a_table(net: Network, tab: Tab, width: int) -> None:
    """On a desk and on a phone it is a table with named columns, and nothing is cut off."""
    tab.set_viewport_size({"width": width, "height": 800})

    assert tab.get_by_role("table", name="Hosts").count() == 1
    assert tab.get_by_role("columnheader").count() >= 8
    assert tab.get_by_role("row", name="msul2 up").count() == 1
    images = [node.get_attribute("aria-label") for node in tab.locator("svg[role=img]").all()]
    assert len(images) == 3
    assert all(label and ": now " in label for label in images)
    over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert tab.evaluate(over) == 0


@needs_chromium
def test_a_daemon_that_is_gone(net: Network, tab: Tab) -> None:
    """The page says that the daemon does not answer, and goes on when it does."""
    assert net.daemon
    net.daemon.end()
    tab.get_by_role("alert").filter(has_text="No answer since").wait_for()
    net.daemon.close()

    net.start()

    tab.get_by_role("alert").wait_for(state="hidden")
    assert tab.locator("#live").inner_text() == "live"


DRAW = """status => {
  draw(status);
  return [document.querySelector("h1").textContent, document.title,
    document.querySelector("link[rel=icon]").getAttribute("href"),
    [...document.querySelectorAll("#reasons li")].map((node) => node.textContent)];
}"""
"""Shows a document and returns what is seen, in one go: the page asks the daemon, too."""


@needs_chromium
def test_all_show_one_verdict(tab: Tab) -> None:
    """Whatever /status holds, headline, title, icon, table, exit code and metric agree."""
    shapes = {"well": "circle", "trouble": "path", "bad": "rect"}

    @settings(max_examples=100, deadline=None)
    @given(documents())
    def check(status: Status) -> None:
        verdict = status.verdict
        headline, title, icon, reasons = tab.evaluate(DRAW, json.loads(msgspec.json.encode(status)))
        assert (headline, title) == (verdict.headline, f"{verdict.headline} · lonc msul1")
        assert f"%3C{shapes[verdict.level]} " in icon
        assert reasons == [reason.text for reason in verdict.reasons[1:]]
        table = "".join(map(str, render(status, width=0, only=lambda _: True).renderables))
        assert verdict.headline in table
        with (
            patch("lonc_gevent.cli.status.load"),
            patch("lonc_gevent.cli.status.fetch", return_value=msgspec.json.encode(status)),
        ):
            result = CliRunner().invoke(main, ["status", "--check"])
        assert result.exit_code == LEVELS.index(verdict.level), result.output
        reporter = Mock(shard="", vitals=Vitals(int, int, Mock(), lambda: None), pools={})
        reporter.status.return_value = status
        reporter.vitals.hub.holds = reporter.vitals.hub.last_minute_ms = 0
        reporter.vitals.hub.longest_ms = reporter.history.started = 0
        metrics = b"".join(Metrics(reporter).render()).decode()
        assert f'lonc_verdict{{level="{verdict.level}"}} 1.0' in metrics

    check()


@needs_chromium
def test_what_is_smuggled_in_does_not_run(address: str, browser: Browser) -> None:
    """The browser enforces the policy: no other script, style or address has a chance."""
    tab = browser.new_page()
    tab.goto(address)

    blocked = tab.evaluate(
        """async () => {
          const seen = [];
          document.addEventListener(
            "securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "window.smuggled = true";
          document.body.append(script);
          document.body.append(Object.assign(new Image(), { src: "http://127.0.0.1:1/x.png" }));
          await fetch("http://127.0.0.1:1/").catch(() => 0);
          await new Promise((done) => setTimeout(done, 100));
          return { seen: seen.sort(), ran: Boolean(window.smuggled) };
        }"""
    )

    assert blocked == {"seen": ["connect-src", "img-src", "script-src-elem"], "ran": False}
