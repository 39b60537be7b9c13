# SPDX-License-Identifier: GPL-2.0-or-later
"""hosts.tab and loncapa.conf that are changed under a running daemon (`network.watch_files`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Network


def replace(path: Path, text: str) -> None:
    """Replace a file as a whole."""
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


def test_changed_hosts_tab_is_loaded_without_a_command(net: Network) -> None:
    net.add("msul2")
    net.add("msul3")
    net.start()
    tab = net.directory / "hosts.tab"
    both = tab.read_text()

    replace(tab, both.splitlines()[0] + "\n")

    event = net.wait_for("hosts_reloaded")
    assert (event["hosts"], event["removed"]) == (1, 1)
    assert net.find("file_changed")[0]["path"] == str(tab)
    assert not (net.sockets / "msul3").exists()
    replace(tab, both)
    assert net.wait_for("hosts_reloaded", 2)["added"] == 1
    assert net.ask("msul3", b"ping") == b"msul3"


def test_changed_loncapa_conf_is_loaded_without_a_command(net: Network) -> None:
    net.add("msul2")
    conf = net.directory / "loncapa.conf"
    conf.write_text("PerlSetVar lonHostID msul1\n")
    net.tables["network"] = {"loncapa_conf": "loncapa.conf"}
    net.write()
    net.config.write_text(net.config.read_text().replace('host_id = "msul1"\n', ""))
    net.run()

    replace(conf, "PerlSetVar lonHostID nscll1\n")

    net.wait_for("hosts_reloaded", changed=1)
    assert net.find("file_changed")[0]["path"] == str(conf)
    assert net.ask("msul2", b"ping") == b"msul2"


def test_hosts_tab_that_is_refused_is_reported_once(net: Network) -> None:
    net.add("msul2")
    net.start()
    tab = net.directory / "hosts.tab"
    good = tab.read_text()

    tab.unlink()

    assert "hosts.tab" in net.wait_for("reload_refused")["error"]
    assert net.ask("msul2", b"ping") == b"msul2"
    # Each event comes some seconds after its change, in order.
    replace(tab, good + "msul3:dom:library:localhost\n")
    net.wait_for("hosts_reloaded", added=1)
    assert len(net.find("reload_refused")) == 1
