# SPDX-License-Identifier: GPL-2.0-or-later
"""hosts.tab with a line that is no good: it costs one host, at a start and at each reload."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness import Network

BAD_LINES = {
    "a line twice": b"msul2:dom:library:localhost\n",
    "three fields": b"nscll1:nscl:access\n",
    "an id with a blank": b"nscl l1:nscl:access:localhost\n",
    "a comment after a host": b"nscll1:nscl:access:localhost # new\n",
    "a domain in Latin-1": b"fhwf1:wolfenb\xfcttel:library:localhost\n",
    "a name that the daemon needs": b"delayed:dom:library:localhost\n",
    "a last line that is cut off": b"nscll1:ns",
}


def damage(net: Network, line: bytes) -> None:
    """Put a line at the end of the network's hosts.tab."""
    with (net.directory / "hosts.tab").open("ab") as file:
        file.write(line)


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_bad_line_costs_one_host_at_start(net: Network, line: bytes) -> None:
    net.add("msul2")
    net.write()
    damage(net, line)

    net.run()
    net.wait_for("ready")

    assert "hosts.tab: line 2" in net.find("configuration_error")[0]["error"]
    assert net.ask("msul2", b"ping") == b"msul2"
    check = net.command("check")
    assert check.returncode == 2
    assert b"hosts.tab: line 2" in check.stderr


@pytest.mark.parametrize(
    ("number", "event"), [(signal.SIGUSR2, "hosts_reloaded"), (signal.SIGHUP, "ready")]
)
def test_bad_line_costs_one_host_at_reload(net: Network, number: int, event: str) -> None:
    net.add("msul2")
    net.start()
    net.add("s10")
    net.write()
    for line in BAD_LINES.values():
        damage(net, line)

    assert net.daemon
    net.daemon.send_signal(number)
    net.wait_for(event, len(net.find(event)) + 1)

    assert len(net.find("configuration_error")) == len(BAD_LINES)
    assert net.ask("msul2", b"ping") == b"msul2"
    assert net.ask("s10", b"ping") == b"s10"
    assert not net.find("reload_refused")


def test_reload_of_a_file_without_a_good_line_changes_nothing(net: Network) -> None:
    net.add("msul2")
    net.start()
    (net.directory / "hosts.tab").write_bytes(b"half a li")

    assert net.daemon
    for number in (signal.SIGUSR2, signal.SIGHUP):
        net.daemon.send_signal(number)
        net.wait_for("reload_refused", len(net.find("reload_refused")) + 1)

    assert net.ask("msul2", b"ping") == b"msul2"
