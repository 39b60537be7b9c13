# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: E501 - whole files in a line
"""Messages of `check` about mistakes; the texts are in test_messages.snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from texts import BASE, HOSTS, run

from lonc_gevent.configuration import hosts_tab
from lonc_gevent.configuration.loncapa_conf import PerlVar
from lonc_gevent.configuration.loncapa_conf import parse as parse_loncapa_conf
from lonc_gevent.configuration.loncapa_values import LONCAPA_CONF_MAX
from lonc_gevent.configuration.problems import Sheet, is_fatal, show

if TYPE_CHECKING:
    from snapshots import Snapshot

MISTAKES: dict[str, str | bytes] = {
    "toml_utf8": b'[network]\nhost_id = "\xff"\n',
    "toml_syntax": "[network\n",
    "dots": "\n" + ".".join("a" * 40) + " = 1\n",
    "nested": "a = " + "[" * 2000 + "]" * 2000,
    "hosts_untabled": BASE + "hosts = []\n[hosts]\nmsul2 = 5\n",
    "hosts_no_table": 'hosts = 5\n[network]\nhost_id = "msul1"\nhosts_tab = "hosts.tab"\n',
    "unknown_table": BASE + "[pol]\nx=1\n",
    "unknown_key": BASE + "[pool]\nmax_conections=1\n",
    "types": BASE
    + '[pool]\nmax_connections=true\nmax_queued=1.5\nreply_timeout="x"\nqueue_timeout=[1]\nidle_timeout={}\nconnect_timeout=2020-01-01\nmax_queued_bytes=9999999999999999999\nhandshake_timeout=false\n',
    "no_ids": "",
    "hosts_tab_missing": '[network]\nhost_id="msul1"\nhosts_tab="none.tab"\n',
    "unknown_id": BASE + 'hosts=["msul3"]\n',
    "twice": BASE + 'hosts=["msul2","msul2"]\n',
    "host_unknown": BASE + "[hosts.msul22]\nport=5\n",
    "address": BASE + '[hosts.msul2]\naddress="1.2.3.4:5"\n',
    "address2": BASE + '[hosts.msul2]\naddress="a b"\n',
    "orders": BASE + "[pool]\nretry_backoff_min=90.0\n",
    "orders2": BASE + "[hosts.msul2]\nretry_backoff_min=90.0\n",
    "bytes": BASE + "[pool]\nmax_request_bytes=1000\nmax_queued_bytes=500\n",
    "long": BASE + '[sockets]\ndirectory = "/' + "d" * 120 + '"\n',
    "listen": BASE + '[admin]\nlisten="nowhere"\n',
    "listen2": BASE + '[admin]\nlisten="1.2.3.4:99999"\n',
    "same": BASE + '[daemon]\npid_file="lonc.toml"\nreport_file="hosts.tab"\n',
    "same2": BASE + '[daemon]\npid_file="x"\nreport_file="x"\n',
    "taken": BASE + '[admin]\nsocket="sockets/msul2"\n',
    "dnsboth": BASE + '[sockets]\nname="both"\n',
    "ht": BASE,
    "ht_none": BASE,
    "ht_only_bad": BASE,
    "conf": '[network]\nloncapa_conf="loncapa.conf"\n',
    "conf2": '[network]\nloncapa_conf="loncapa.conf"\n',
    "conf3": '[network]\nloncapa_conf="nope.conf"\n',
}
HOSTS_TABS: dict[str, bytes] = {
    "dnsboth": b"msul1:d:library:msul2\nmsul2:d:library:x\n",
    "ht": b"msul1:d:library:a\nmsul1:d:library:b\na:b:c\n\xffx:b:c:d\na:b\x01c:d:e\na/b:x:y:z\nq:r:s:t..u\n",
    "ht_none": b"# nothing\n",
    "ht_only_bad": b"a:b:c\n",
}
LONCAPA_CONFS: dict[str, bytes] = {
    "conf": b'PerlSetVar lonHostID "msul1"\nPerlSetVar lonTabDir /lonTabs\nPerlSetVar londPort x\n',
    "conf2": b"PerlSetVar lonTabDir\n",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_has_its_messages(name: str, snapshot: Snapshot) -> None:
    """Place, what was found, what was expected, and whether the daemon can start."""
    checked = run(MISTAKES[name], HOSTS_TABS.get(name, HOSTS), LONCAPA_CONFS.get(name))

    assert (checked.configuration is None) == is_fatal(checked.problems)
    snapshot("\n".join(f"{problem.severity.value}: {problem}" for problem in checked.problems))


@pytest.mark.parametrize(("lines", "fits"), [(0, True), (1, False)])
def test_a_hosts_tab_of_more_than_max_lines_is_refused(lines: int, fits: bool) -> None:
    data = b"a:b:c:d\n" + b"\n" * (hosts_tab.MAX_LINES - 1 + lines)
    sheet = Sheet("hosts.tab")

    parsed = hosts_tab.parse(data, sheet)

    assert len(parsed.hosts) == len(parsed.ids) == fits
    messages = [str(problem) for problem in sheet.problems()]
    assert messages == ([] if fits else ["hosts.tab: more than 200000 lines; expected a hosts.tab"])


def test_the_id_of_a_bad_line_is_known() -> None:
    """Even if the line is not UTF-8. Colons at the end belong to the last field."""
    sheet = Sheet("hosts.tab")

    parsed = hosts_tab.parse(b"one:b:c:\xff:e\ntwo:b:c:d" + b":" * 70, sheet)

    assert parsed.ids == {"one", "two"}
    assert len(parsed.hosts[0].extra) == 61
    assert parsed.hosts[0].extra[-1] == ":" * 9


def test_byte_order_mark_of_loncapa_conf_is_skipped() -> None:
    data = b"\xef\xbb\xbfPerlSetVar lonHostID msul1"

    assert parse_loncapa_conf(data) == {"lonHostID": PerlVar("msul1", 1)}


@pytest.mark.parametrize(("size", "fits"), [(107, True), (108, False)])
def test_a_socket_path_of_more_than_107_bytes_is_refused(size: int, fits: bool) -> None:
    directory = "/" + "d" * (size - len("//lonc-admin"))
    toml = (
        BASE + f'[sockets]\ndirectory = "{directory}"\n[admin]\nsocket = "{directory}/lonc-admin"\n'
    )

    assert (run(toml).configuration is not None) == fits


def test_equal_backoff_limits_are_allowed() -> None:
    toml = BASE + "[pool]\nretry_backoff_min = 7.0\nretry_backoff_max = 7.0\n"

    assert run(toml).configuration is not None


def test_byte_order_mark_of_a_toml_file_is_skipped() -> None:
    """And does not change line numbers."""
    checked = run(b"\xef\xbb\xbf" + BASE.encode())
    assert checked.configuration is not None

    checked = run(b"\xff\n\n")
    assert str(checked.problems[0]) == (
        "lonc.toml: line 1: byte 0xff is not UTF-8; expected a TOML file"
    )


def test_a_host_has_the_domain_role_and_dns_name_of_its_line() -> None:
    configuration = run(BASE, b"msul1:msu:library:one.example\n").configuration

    assert configuration is not None
    (host,) = configuration.hosts
    assert (host.domain, host.role, host.dns_name) == ("msu", "library", "one.example")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x" * 58, '"' + "x" * 58 + '"'),
        ("x" * 59, '"' + "x" * 38 + "..." + "x" * 17 + '"'),
        ("a" * 41 + "b" * 41, '"' + "a" * 38 + "..." + "b" * 17 + '"'),
        ('say "no" \\ yes', '"say \\"no\\" \\\\ yes"'),
        ("\udc80\udcff", '"\\x80\\xff"'),
        (10**18 - 1, "9" * 18),
        (10**18, "a huge number"),
        (-(10**18), "a huge number"),
    ],
)
def test_a_value_is_shown_escaped_and_shortened(text: object, shown: str) -> None:
    assert show(text) == shown


def test_a_loncapa_conf_of_more_than_its_limit_is_refused() -> None:
    toml = '[network]\nloncapa_conf = "loncapa.conf"\nhost_id = "msul1"\nhosts_tab = "hosts.tab"\n'

    assert run(toml, conf=b"#" * LONCAPA_CONF_MAX).configuration is not None
    checked = run(toml, conf=b"#" * (LONCAPA_CONF_MAX + 1))
    assert [str(problem) for problem in checked.problems] == [
        "/etc/lonc/loncapa.conf: is larger than 1048576 bytes; expected a loncapa.conf"
    ]
