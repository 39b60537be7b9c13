# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: E501 - whole lines, as a person reads them
"""What `check` says about a mistake, word for word: that is all a person has to mend it by."""

from __future__ import annotations

import pytest
from texts import BASE, HOSTS, run

from lonc_gevent.configuration import hosts_tab
from lonc_gevent.configuration.check import LONCAPA_CONF_MAX
from lonc_gevent.configuration.loncapa_conf import PerlVar
from lonc_gevent.configuration.loncapa_conf import parse as parse_loncapa_conf
from lonc_gevent.configuration.problems import Sheet, show

MISTAKES: dict[str, tuple[str | bytes, list[str]]] = {
    "toml_utf8": (
        b'[network]\nhost_id = "\xff"\n',
        [
            "lonc.toml: line 2: byte 0xff is not UTF-8; expected a TOML file",
        ],
    ),
    "toml_syntax": (
        "[network\n",
        [
            "lonc.toml: line 1, column 9: not TOML; expected ']' at the end of a table declaration",
        ],
    ),
    "dots": (
        "\n" + ".".join("a" * 40) + " = 1\n",
        [
            "lonc.toml: line 2: more than 32 names joined by dots; expected a setting",
        ],
    ),
    "nested": (
        "a = " + "[" * 2000 + "]" * 2000,
        [
            "lonc.toml: arrays or tables nested too deep; expected a setting a line",
        ],
    ),
    "hosts_untabled": (
        BASE + "hosts = []\n[hosts]\nmsul2 = 5\n",
        [
            "lonc.toml: hosts.msul2: found 5; expected a table: [hosts.msul2]",
        ],
    ),
    "hosts_no_table": (
        'hosts = 5\n[network]\nhost_id = "msul1"\nhosts_tab = "hosts.tab"\n',
        [
            "lonc.toml: hosts: found 5; expected a table a host: [hosts.ID]",
        ],
    ),
    "unknown_table": (
        BASE + "[pol]\nx=1\n",
        [
            "lonc.toml: pol: unknown table; did you mean [pool]?",
        ],
    ),
    "unknown_key": (
        BASE + "[pool]\nmax_conections=1\n",
        [
            "lonc.toml: pool.max_conections: unknown key; did you mean pool.max_connections?",
        ],
    ),
    "types": (
        BASE
        + '[pool]\nmax_connections=true\nmax_queued=1.5\nreply_timeout="x"\nqueue_timeout=[1]\nidle_timeout={}\nconnect_timeout=2020-01-01\nmax_queued_bytes=9999999999999999999\nhandshake_timeout=false\n',
        [
            "lonc.toml: pool.max_connections: found true; expected a whole number, 1 to 10000",
            "lonc.toml: pool.max_queued: found 1.5; expected a whole number, 1 to 10**9",
            'lonc.toml: pool.reply_timeout: found "x"; expected a number of seconds above 0',
            "lonc.toml: pool.queue_timeout: found an array; expected a number of seconds above 0",
            "lonc.toml: pool.idle_timeout: found a table; expected a number of seconds above 0",
            "lonc.toml: pool.connect_timeout: found a date or a time; expected a number of seconds above 0",
            "lonc.toml: pool.max_queued_bytes: found a huge number; expected a whole number of bytes, 64 to 2**40",
            "lonc.toml: pool.handshake_timeout: found false; expected a number of seconds above 0",
        ],
    ),
    "no_ids": (
        "",
        [
            "lonc.toml: network.host_id: missing; expected here, or as lonHostID in network.loncapa_conf",
            "lonc.toml: network.hosts_tab: missing; expected here, or as lonTabDir in network.loncapa_conf",
        ],
    ),
    "hosts_tab_missing": (
        '[network]\nhost_id="msul1"\nhosts_tab="none.tab"\n',
        [
            'lonc.toml: network.hosts_tab: "/etc/lonc/none.tab" does not exist; expected a file that can be read',
        ],
    ),
    "unknown_id": (
        BASE + 'hosts=["msul3"]\n',
        [
            'lonc.toml: network.hosts[0]: no host "msul3" in hosts.tab; did you mean "msul2"?',
        ],
    ),
    "twice": (
        BASE + 'hosts=["msul2","msul2"]\n',
        [
            'lonc.toml: network.hosts[1]: found "msul2" again; expected each id once',
        ],
    ),
    "host_unknown": (
        BASE + "[hosts.msul22]\nport=5\n",
        [
            'lonc.toml: hosts.msul22: no host "msul22" in hosts.tab; did you mean "msul2"?',
        ],
    ),
    "address": (
        BASE + '[hosts.msul2]\naddress="1.2.3.4:5"\n',
        [
            'lonc.toml: hosts.msul2.address: found "1.2.3.4:5"; expected an IP address or a name, without a port',
        ],
    ),
    "address2": (
        BASE + '[hosts.msul2]\naddress="a b"\n',
        [
            'lonc.toml: hosts.msul2.address: found "a b"; expected an IP address or a name, without a port',
        ],
    ),
    "orders": (
        BASE + "[pool]\nretry_backoff_min=90.0\n",
        [
            "lonc.toml: pool.retry_backoff_min: found 90.0; expected at most retry_backoff_max, which is 60.0",
        ],
    ),
    "orders2": (
        BASE + "[hosts.msul2]\nretry_backoff_min=90.0\n",
        [
            "lonc.toml: hosts.msul2.retry_backoff_min: found 90.0; expected at most retry_backoff_max, which is 60.0",
        ],
    ),
    "bytes": (
        BASE + "[pool]\nmax_request_bytes=1000\nmax_queued_bytes=500\n",
        [
            "lonc.toml: pool.max_request_bytes: found 1000; expected at most max_queued_bytes, which is 500",
        ],
    ),
    "long": (
        BASE + '[sockets]\ndirectory = "/' + "d" * 120 + '"\n',
        [
            'lonc.toml: sockets.directory: "/ddddddddddddddddddddddddddddddddddddd...dddddddddd/s10.l2" has 128 bytes, for socket "s10.l2"; expected at most 107 bytes for the path of a Unix socket',
            'lonc.toml: sockets.directory: "/ddddddddddddddddddddddddddddddddddddd...ddddddddddd/msul2" has 127 bytes, for socket "msul2"; expected at most 107 bytes for the path of a Unix socket',
            'lonc.toml: sockets.directory: "/ddddddddddddddddddddddddddddddddddddd...ddddddddddd/msul1" has 127 bytes, for socket "msul1"; expected at most 107 bytes for the path of a Unix socket',
            'lonc.toml: admin.socket: "/ddddddddddddddddddddddddddddddddddddd...dddddd/lonc-admin" has 132 bytes; expected at most 107 bytes for the path of a Unix socket',
        ],
    ),
    "listen": (
        BASE + '[admin]\nlisten="nowhere"\n',
        [
            'lonc.toml: admin.listen: found "nowhere"; expected a loopback address and port, such as "127.0.0.1:9663"',
        ],
    ),
    "listen2": (
        BASE + '[admin]\nlisten="1.2.3.4:99999"\n',
        [
            'lonc.toml: admin.listen: found "1.2.3.4:99999"; expected a loopback address and port, such as "127.0.0.1:9663"',
        ],
    ),
    "same": (
        BASE + '[daemon]\npid_file="lonc.toml"\nreport_file="hosts.tab"\n',
        [
            'lonc.toml: daemon.pid_file: found "/etc/lonc/lonc.toml"; expected another path than this file',
            'lonc.toml: daemon.report_file: found "/etc/lonc/hosts.tab"; expected another path than network.hosts_tab',
        ],
    ),
    "same2": (
        BASE + '[daemon]\npid_file="x"\nreport_file="x"\n',
        [
            'lonc.toml: daemon.report_file: found "/etc/lonc/x"; expected another path than daemon.pid_file',
        ],
    ),
    "taken": (
        BASE + '[admin]\nsocket="sockets/msul2"\n',
        [
            '/etc/lonc/hosts.tab: line 2: "msul2" would name a socket of host "msul2"; expected another name: in sockets.directory this one is for admin.socket',
        ],
    ),
    "dnsboth": (
        BASE + '[sockets]\nname="both"\n',
        [
            '/etc/lonc/hosts.tab: line 1: dns name "msul2" is the id of line 2; expected another, or sockets.name "id" or "dns"',
        ],
    ),
    "ht": (
        BASE,
        [
            '/etc/lonc/hosts.tab: line 2: id "msul1" is already on line 1; expected each id once',
            '/etc/lonc/hosts.tab: line 3: 3 of 4 fields: "a:b:c"; expected id:domain:role:dns-name[:more]',
            '/etc/lonc/hosts.tab: line 4: byte 0xff is not UTF-8: "\\xffx:b:c:d"; expected id:domain:role:dns-name[:more]',
            '/etc/lonc/hosts.tab: line 5: control characters: "a:b\\x01c:d:e"; expected id:domain:role:dns-name[:more]',
            '/etc/lonc/hosts.tab: line 6: host id "a/b"; expected printable characters without blanks, quotes, / and :, at most 100',
            '/etc/lonc/hosts.tab: line 7: dns name "t..u"; expected letters, digits, - and _ in parts of at most 63, joined by dots',
        ],
    ),
    "ht_none": (
        BASE,
        [
            "/etc/lonc/hosts.tab: no host in it; expected id:domain:role:dns-name[:more], one a line",
        ],
    ),
    "conf": (
        '[network]\nloncapa_conf="loncapa.conf"\n',
        [
            '/etc/lonc/loncapa.conf: line 1 (lonHostID): found "\\"msul1\\""; expected a host id: printable characters without blanks, quotes, / and :, at most 100, without quotes around it',
            '/etc/lonc/loncapa.conf: line 3 (londPort): found "x"; expected a port number, 1 to 65535',
        ],
    ),
    "conf2": (
        '[network]\nloncapa_conf="loncapa.conf"\n',
        [
            "lonc.toml: network.host_id: missing; expected here, or as lonHostID in network.loncapa_conf",
            '/etc/lonc/loncapa.conf: line 1 (lonTabDir): found ""; expected a path without control characters',
        ],
    ),
    "conf3": (
        '[network]\nloncapa_conf="nope.conf"\n',
        [
            'lonc.toml: network.loncapa_conf: "/etc/lonc/nope.conf" does not exist; expected a file that can be read',
            "lonc.toml: network.host_id: missing; expected here, or as lonHostID in network.loncapa_conf",
            "lonc.toml: network.hosts_tab: missing; expected here, or as lonTabDir in network.loncapa_conf",
        ],
    ),
}
HOSTS_TABS: dict[str, bytes] = {
    "dnsboth": b"msul1:d:library:msul2\nmsul2:d:library:x\n",
    "ht": b"msul1:d:library:a\nmsul1:d:library:b\na:b:c\n\xffx:b:c:d\na:b\x01c:d:e\na/b:x:y:z\nq:r:s:t..u\n",
    "ht_none": b"# nothing\n",
}
LONCAPA_CONFS: dict[str, bytes] = {
    "conf": b'PerlSetVar lonHostID "msul1"\nPerlSetVar lonTabDir /lonTabs\nPerlSetVar londPort x\n',
    "conf2": b"PerlSetVar lonTabDir\n",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_words(name: str) -> None:
    """Place, what was found, what was expected: the whole line, and no other."""
    toml, expected = MISTAKES[name]

    checked = run(toml, HOSTS_TABS.get(name, HOSTS), LONCAPA_CONFS.get(name))

    assert [str(problem) for problem in checked.problems] == expected
    assert checked.configuration is None


@pytest.mark.parametrize(("lines", "fits"), [(0, True), (1, False)])
def test_the_largest_hosts_tab(lines: int, fits: bool) -> None:
    """A file of MAX_LINES line ends is read; one more, and it is something else."""
    data = b"a:b:c:d\n" + b"\n" * (hosts_tab.MAX_LINES - 1 + lines)
    sheet = Sheet("hosts.tab")

    parsed = hosts_tab.parse(data, sheet)

    assert len(parsed.hosts) == len(parsed.ids) == fits
    told = [str(problem) for problem in sheet.problems()]
    assert told == ([] if fits else ["hosts.tab: more than 200000 lines; expected a hosts.tab"])


def test_an_id_of_a_bad_line_counts() -> None:
    """An id is taken even where its line is no UTF-8; colons at the end belong to the last field."""
    sheet = Sheet("hosts.tab")

    parsed = hosts_tab.parse(b"one:b:c:\xff:e\ntwo:b:c:d" + b":" * 70, sheet)

    assert parsed.ids == {"one", "two"}
    assert len(parsed.hosts[0].extra) == 61
    assert parsed.hosts[0].extra[-1] == ":" * 9


def test_loncapa_conf_with_a_byte_order_mark() -> None:
    """A byte order mark before the first line is no part of it."""
    data = b"\xef\xbb\xbfPerlSetVar lonHostID msul1"

    assert parse_loncapa_conf(data) == {"lonHostID": PerlVar("msul1", 1)}


def test_only_bad_lines_are_no_empty_file() -> None:
    """Where every line is bad, each is told; that there is no host goes without saying."""
    checked = run(BASE, b"a:b:c\n")

    told = [str(problem) for problem in checked.problems]
    assert told == [
        '/etc/lonc/hosts.tab: line 1: 3 of 4 fields: "a:b:c"; expected id:domain:role:dns-name[:more]'
    ]


@pytest.mark.parametrize(("size", "fits"), [(107, True), (108, False)])
def test_the_longest_path_of_a_socket(size: int, fits: bool) -> None:
    """The kernel takes 107 bytes, and so do we."""
    directory = "/" + "d" * (size - len("//lonc-admin"))
    toml = (
        BASE + f'[sockets]\ndirectory = "{directory}"\n[admin]\nsocket = "{directory}/lonc-admin"\n'
    )

    assert (run(toml).configuration is not None) == fits


def test_a_pause_that_never_grows_is_allowed() -> None:
    """The shortest and the longest pause may be the same."""
    toml = BASE + "[pool]\nretry_backoff_min = 7.0\nretry_backoff_max = 7.0\n"

    assert run(toml).configuration is not None


def test_a_toml_file_with_a_byte_order_mark() -> None:
    """A byte order mark before the first line is no part of it, and moves no line number."""
    checked = run(b"\xef\xbb\xbf" + BASE.encode())
    assert checked.configuration is not None

    checked = run(b"\xff\n\n")
    assert str(checked.problems[0]) == (
        "lonc.toml: line 1: byte 0xff is not UTF-8; expected a TOML file"
    )


def test_a_host_keeps_what_hosts_tab_says_of_it() -> None:
    """Domain, role and dns name are those of its line."""
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
def test_how_a_value_is_shown(text: object, shown: str) -> None:
    """In at most some 60 characters, the first and the last of it, on one line."""
    assert show(text) == shown


def test_the_largest_loncapa_conf() -> None:
    """A file of LONCAPA_CONF_MAX bytes is read; one byte more, and it is something else."""
    toml = '[network]\nloncapa_conf = "loncapa.conf"\nhost_id = "msul1"\nhosts_tab = "hosts.tab"\n'

    assert run(toml, conf=b"#" * LONCAPA_CONF_MAX).configuration is not None
    checked = run(toml, conf=b"#" * (LONCAPA_CONF_MAX + 1))
    assert [str(problem) for problem in checked.problems] == [
        "/etc/lonc/loncapa.conf: is larger than 1048576 bytes; expected a loncapa.conf"
    ]
