# SPDX-License-Identifier: GPL-2.0-or-later
"""The example application under a real gunicorn, looked at with a real Chromium."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, Process, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Network
    from playwright.sync_api import Browser, Page

CONF = Path(__file__).parents[2] / "config" / "examples" / "webapp" / "gunicorn.conf.py"


def fetch(url: str) -> tuple[int, str]:
    """Return the status and the body of a page; 0 without an answer."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - ours
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


@pytest.fixture
def url(request: pytest.FixtureRequest, net: Network) -> Iterator[str]:
    """Give the application's address; msul1 and nscll1 are up, msul2 is down."""
    pytest.importorskip("gunicorn")
    net.add("msul1")
    net.add("msul2", start=False)
    net.add("nscll1", "--habit", "legacy")
    net.start()
    bind = f"127.0.0.1:{free_port()}"
    env = {"LONC_CONFIG": str(net.config), "LONC_WEB_BIND": bind}
    env["LONC_WEB_WORKERS"] = getattr(request, "param", "sync")
    gunicorn = Process("gunicorn", "--config", str(CONF), "--log-level", "warning", env=env)
    try:
        wait_until(lambda: fetch(f"http://{bind}/")[0] == 200, "the page is there")
        yield f"http://{bind}/"
        assert (gunicorn.end(), gunicorn.stderr) == (0, "")
    finally:
        gunicorn.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give Debian's Chromium, without a window."""
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here (Debian's package; scripts/test installs it as root)")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Give an empty tab; the page in it may say nothing on the console, and load nothing more."""
    with browser.new_context() as context:
        tab = context.new_page()
        said: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        yield tab
    assert said == []


def states(page: Page) -> dict[str, str]:
    """Return what the table says: host -> state."""
    rows = page.locator("tbody tr")
    return {
        row.locator("th").inner_text(): row.locator(".state").inner_text() for row in rows.all()
    }


@pytest.mark.parametrize("url", ["sync", "gevent"], indirect=True)
def test_the_page(url: str, net: Network, page: Page) -> None:
    """It shows who is up and who is down, a user's data, and a host that comes back."""
    page.goto(url)
    assert states(page) == {"msul1": "up", "msul2": "down", "nscll1": "up"}
    assert page.locator("dl").inner_text().split("\n") == [
        "First name",
        "Ada",
        "Last name",
        "Example",
        "E-mail",
        "ada@msu.example",
        "Languages",
        "en, de",
    ]

    net.londs["msul2"].start()
    wait_until(lambda: net.ask("msul2", b"ping") == b"msul2", "msul2 is back")
    page.get_by_label("User", exact=True).fill("bertrand")
    page.get_by_label("Host", exact=True).select_option("msul2")
    page.get_by_role("button", name="Fetch").click()
    page.wait_for_url("**user=bertrand**")

    assert states(page) == {"msul1": "up", "msul2": "up", "nscll1": "up"}
    assert page.locator("dd").first.inner_text() == "Bertrand"
    assert net.londs["msul2"].received[-1].startswith(b"get:msu:bertrand:environment:")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(url: str, browser: Browser, scheme: str) -> None:
    """It follows the reader's colours, and fits a phone."""
    options = {"color_scheme": scheme, "viewport": {"width": 390, "height": 800}}
    with browser.new_context(**options) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(url)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        width = page.evaluate("document.documentElement.scrollWidth")

    red = int(ground.partition("(")[2].partition(",")[0])
    assert red < 60 if scheme == "dark" else red > 200
    assert width <= 390


def test_a_user_that_is_down(url: str, page: Page) -> None:
    """A host that cannot be reached makes a kind word, not an error."""
    page.goto(url + "?host=msul2")

    assert "cannot be reached now" in page.locator(".notice").inner_text()


@pytest.mark.parametrize(("host", "title"), [("msul1", "Saved."), ("msul2", "Saved for later.")])
def test_change_is_saved_now_or_for_later(
    url: str, net: Network, page: Page, host: str, title: str
) -> None:
    """A host that is down gets the request once it is back."""
    page.goto(url)
    page.get_by_role("textbox", name="Languages").fill("fr, it")
    page.get_by_label("On host").select_option(host)
    page.get_by_role("button", name="Save").click()
    assert page.locator(".notice strong").first.inner_text() == title

    if host == "msul2":
        net.londs["msul2"].start()
    lond = net.londs[host]
    expected = b"put:msu:ada:environment:languages=fr%2c%20it"
    wait_until(lambda: expected in lond.received, "the request has arrived", 60)


def test_what_a_visitor_types_is_only_text(url: str, net: Network) -> None:
    """Neither markup nor a request can be smuggled in, whatever the fields hold."""
    nasty = "%3Cscript%3E%0Aping%3Aa%26b"

    status, page = fetch(f"{url}?user={nasty}&domain={nasty}&host=msul1")
    other, unknown = fetch(f"{url}?host={nasty}")

    assert (status, other) == (200, 200)
    assert "<script" not in page + unknown
    assert "Unknown host" in unknown
    sent = [line for line in net.londs["msul1"].received if line.startswith(b"get:")]
    name = b"%3cscript%3e%0aping%3aa%26b"
    assert sent[-1].startswith(b"get:%s:%s:environment:" % (name, name))


def test_another_address(url: str) -> None:
    """There is one page, and the rest is 404."""
    assert fetch(url + "favicon.ico")[0] == 404


def test_without_a_daemon(url: str, net: Network) -> None:
    """While the daemon is away the page says so, and is a page."""
    assert net.daemon
    net.daemon.end()

    status, page = fetch(url)

    assert status == 200
    assert page.count("lonc is not running here") == 3
