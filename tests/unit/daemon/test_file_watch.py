# SPDX-License-Identifier: GPL-2.0-or-later
"""The watch of hosts.tab and loncapa.conf, without a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lonc_gevent.configuration.settings import Configuration, Network, Settings
from lonc_gevent.daemon.file_watch import SETTLED, FileWatch

if TYPE_CHECKING:
    from pathlib import Path

LONG = 10 * SETTLED


@pytest.fixture
def tab(tmp_path: Path) -> Path:
    """Return a hosts.tab."""
    path = tmp_path / "hosts.tab"
    path.write_bytes(b"old")
    return path


def configuration(tab: Path, conf: str = "", *, watch_files: bool = True) -> Configuration:
    """Return a configuration with this hosts.tab and loncapa.conf."""
    network = Network(
        host_id="msul1", hosts_tab=str(tab), loncapa_conf=conf, watch_files=watch_files
    )
    return Configuration(
        settings=Settings(network=network), hosts=(), sockets={}, known=frozenset()
    )


def test_file_that_was_read_at_the_start_is_no_change(tab: Path) -> None:
    watch = FileWatch(configuration(tab), {str(tab): b"old"})

    assert [watch.find_change(now) for now in (0.0, LONG, 2 * LONG)] == ["", "", ""]


def test_file_that_changed_before_the_first_look_is_found(tab: Path) -> None:
    watch = FileWatch(configuration(tab), {str(tab): b"older"})

    assert [watch.find_change(now) for now in (0.0, LONG)] == ["", str(tab)]


def test_change_is_found_once_and_not_before_the_file_has_settled(tab: Path) -> None:
    watch = FileWatch(configuration(tab), {str(tab): b"old"})
    assert [watch.find_change(now) for now in (0.0, LONG)] == ["", ""]

    tab.write_bytes(b"half a")
    assert [watch.find_change(LONG + now) for now in (1.0, 1.0 + SETTLED * 0.9)] == ["", ""]
    tab.write_bytes(b"the whole")
    assert [watch.find_change(2 * LONG + now) for now in (1.0, 1.0 + SETTLED * 0.9)] == ["", ""]
    assert watch.find_change(2 * LONG + 1.0 + SETTLED) == str(tab)

    assert watch.find_change(4 * LONG) == ""


def test_file_that_a_command_has_read_already_is_no_change(tab: Path) -> None:
    watch = FileWatch(configuration(tab), {str(tab): b"old"})
    assert [watch.find_change(now) for now in (0.0, LONG)] == ["", ""]
    tab.write_bytes(b"new, and loaded by USR2")
    assert watch.find_change(LONG) == ""

    watch.reloaded(configuration(tab), {str(tab): tab.read_bytes()})

    assert watch.find_change(2 * LONG) == ""


def test_removed_file_is_a_change(tab: Path) -> None:
    watch = FileWatch(configuration(tab), {str(tab): b"old"})
    tab.unlink()

    assert [watch.find_change(now) for now in (0.0, LONG, 2 * LONG)] == ["", str(tab), ""]


def test_change_is_not_found_with_watch_files_off(tab: Path) -> None:
    watch = FileWatch(configuration(tab, watch_files=False), {})

    assert [watch.find_change(now) for now in (0.0, LONG)] == ["", ""]


@pytest.mark.parametrize(
    ("conf", "name"),
    [
        ("", "dns_hosts.tab"),
        ("conf/loncapa.conf", "conf/loncapa.conf"),
        ("conf/loncapa.conf", "conf/loncapa_apache.conf"),
        ("conf", "conf/loncapa.conf"),
    ],
)
def test_new_file_that_belongs_to_the_configuration_is_a_change(
    tab: Path, conf: str, name: str
) -> None:
    (tab.parent / "conf").mkdir()
    full = str(tab.parent / conf) if conf else ""
    watch = FileWatch(configuration(tab, full), {str(tab): b"old"})
    assert [watch.find_change(now) for now in (0.0, LONG)] == ["", ""]

    (tab.parent / name).write_bytes(b"new")

    found = [watch.find_change(LONG + now) for now in (0.0, LONG)]
    assert found == ["", str(tab.parent / name)]
