# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of the configuration: texts in, a Configuration or problems out."""

from __future__ import annotations

import time

import pytest
from texts import BASE, HOSTS, good, problems_of, run

from lonc_gevent.configuration.loncapa_values import LONCAPA_CONF_MAX
from lonc_gevent.configuration.problems import SHOWN_PROBLEMS, Severity
from lonc_gevent.configuration.settings import Pool, Settings


def test_defaults() -> None:
    """With only what has no default given, the rest is as contract.md says."""
    settings = good(BASE).settings
    assert settings.pool == Pool()
    assert settings.network.lond_port == 5663
    assert settings.sockets.directory == "/etc/lonc/sockets"
    assert settings.delayed.directory == "/etc/lonc/sockets/delayed"
    assert settings.admin.socket == "/etc/lonc/sockets/lonc-admin"
    assert settings.daemon.pid_file == ""
    assert [host.id for host in good(BASE).hosts] == ["msul1", "msul2", "s10.l2"]


def test_an_absolute_path_stays() -> None:
    """Only relative paths count from the folder of the TOML file."""
    settings = good(BASE + '[daemon]\npid_file = "/run/x.pid"\nreport_file = "r"').settings
    assert settings.daemon.pid_file == "/run/x.pid"
    assert settings.daemon.report_file == "/etc/lonc/r"


def test_what_belongs_below_the_sockets_follows_them() -> None:
    """delayed.directory and admin.socket go with sockets.directory, unless they are given."""
    settings = good(BASE + '[sockets]\ndirectory = "/run/s"\n[admin]\nsocket = "adm"').settings
    assert settings.delayed.directory == "/run/s/delayed"
    assert settings.admin.socket == "/etc/lonc/adm"


def test_host_overrides() -> None:
    """A host has its own values where it has any, and the general ones elsewhere."""
    configuration = good(
        BASE
        + '[pool]\nreply_timeout = 7\n[hosts.msul2]\naddress = "::1"\nport = 15663\n'
        + 'client_id = "other"\nsecurity = "local"\nmax_connections = 2\n[hosts."s10.l2"]\n'
        + 'negotiation = "legacy"\nclient_id = ""\n'
    )
    first, second, third = configuration.hosts
    assert (first.address, first.port, first.client_id) == ("", 5663, "msul1")
    assert (first.security, first.negotiation) == ("insecure", "auto")
    assert first.pool == Pool(reply_timeout=7.0) == third.pool
    assert (second.address, second.port, second.client_id) == ("::1", 15663, "other")
    assert (second.security, second.server_id) == ("local", "msul2")
    assert second.pool == Pool(reply_timeout=7.0, max_connections=2)
    assert (third.negotiation, third.client_id) == ("legacy", "msul1")


def test_only_some_hosts_are_served() -> None:
    """network.hosts picks hosts; their order is that of hosts.tab."""
    configuration = good(BASE + 'hosts = ["s10.l2", "msul1"]')
    assert [host.id for host in configuration.hosts] == ["msul1", "s10.l2"]
    assert configuration.sockets == {"msul1": "msul1", "s10.l2": "s10.l2"}


def test_loncapa_conf_fills_what_is_left_out() -> None:
    """Each variable of contract.md gives its keys."""
    conf = (
        b"PerlSetVar lonHostID msul2\nPerlSetVar lonTabDir /lonTabs\nPerlSetVar londPort 5664\n"
        b"PerlSetVar lonSockDir /run/s\nPerlSetVar lonDaemons /perl\n"
    )
    settings = good('[network]\nloncapa_conf = "loncapa.conf"', conf=conf).settings
    assert settings.network.host_id == "msul2"
    assert settings.network.hosts_tab == "/lonTabs/hosts.tab"
    assert settings.network.lond_port == 5664
    assert settings.sockets.directory == "/run/s"
    assert settings.delayed.directory == "/run/s/delayed"
    assert settings.admin.socket == "/run/s/lonc-admin"
    assert settings.daemon.pid_file == "/perl/logs/lonc.pid"
    assert settings.delayed.perm_log == "/perl/logs/lonnet.perm.log"


def test_the_toml_file_wins() -> None:
    """What the TOML file gives, loncapa.conf does not change, nor is it found bad there."""
    conf = b"PerlSetVar lonHostID /\nPerlSetVar lonTabDir /no\nPerlSetVar lonDaemons /perl\n"
    toml = BASE + 'loncapa_conf = "loncapa.conf"\n[daemon]\npid_file = ""'
    checked = run(toml, conf=conf)
    assert checked.configuration
    settings = checked.configuration.settings
    host_id, hosts_tab = map(str, checked.problems)
    assert host_id.endswith('host_id: found "msul1"; loncapa.conf gives "/" (lonHostID)')
    assert hosts_tab.endswith('"hosts.tab"; loncapa.conf gives "/no/hosts.tab" (lonTabDir)')
    assert {problem.severity for problem in checked.problems} == {Severity.WARNING}
    assert settings.network.host_id == "msul1"
    assert settings.daemon.pid_file == ""
    assert settings.delayed.perm_log == "/perl/logs/lonnet.perm.log"


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        (b"PerlSetVar londPort 99999", 'line 1 (londPort): found "99999"; expected a port number'),
        (b"PerlSetVar londPort 1.5", 'line 1 (londPort): found "1.5"'),
        (b'\nPerlSetVar lonSockDir "/x"', r'line 2 (lonSockDir): found "\"/x\""; expected a path'),
        (b"PerlSetVar lonDaemons", 'line 1 (lonDaemons): found ""'),
        (b"PerlSetVar lonSockDir /\xff", r'line 1 (lonSockDir): found "/\xff"'),
        (
            b"PerlSetVar lonSockDir /" + b"x" * 120,
            'line 1 (lonSockDir): "/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...',
        ),
    ],
)
def test_invalid_value_of_loncapa_conf_is_reported_at_its_line(conf: bytes, expected: str) -> None:
    """The file and line with the value are named, not the key that it would fill."""
    lines = problems_of(BASE + 'loncapa_conf = "loncapa.conf"', conf=conf)
    assert any(line.startswith("/etc/lonc/loncapa.conf: " + expected) for line in lines), lines
    assert all(line.startswith("/etc/lonc/loncapa.conf: ") or "admin" in line for line in lines)


def test_an_empty_file_lacks_two_keys() -> None:
    """What has no default is asked for, with where else it could come from."""
    expected = "lonc.toml: network.{}: missing; expected here, or as {} in network.loncapa_conf"
    assert problems_of("") == [
        expected.format("host_id", "lonHostID"),
        expected.format("hosts_tab", "lonTabDir"),
    ]


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (
            "[pool]\nmax_conections = 1",
            "pool.max_conections: unknown key; did you mean pool.max_connections?",
        ),
        (
            "[pool]\nhost_id = 1",
            "pool.host_id: unknown key; did you mean network.host_id?",
        ),
        ("[pol]", "pol: unknown table; did you mean [pool]?"),
        ("[pool]\nzzzz = 1", "pool.zzzz: unknown key; did you mean pool."),
        ('[hosts.msul2]\nadress = "x"', "hosts.msul2.adress: unknown key; did you mean hosts."),
        ("[hosts.s10.l2]\nport = 1", "hosts.s10.l2: unknown table; an id with a dot is quoted: [h"),
        ("[hosts]\nport = 1", "hosts.port: found a key outside of a host; expected [hosts.ID]"),
        ("[hosts]\nmsul2 = 1", "hosts.msul2: found 1; expected a table: [hosts.msul2]"),
        ("[[pool]]", "pool: found an array of tables ([[...]]); expected a table: [pool]"),
        ("[[hosts]]", "hosts: found an array of tables"),
    ],
)
def test_unknown_keys_and_tables(toml: str, expected: str) -> None:
    """The nearest known one is named, be it in another table."""
    lines = problems_of(BASE + toml)
    assert lines[0].startswith("lonc.toml: " + expected), lines


def test_an_unknown_key_at_the_top() -> None:
    """A key before the first table is one of some table's."""
    expected = "lonc.toml: host_id: unknown key; did you mean network.host_id?"
    assert problems_of('host_id = "x"\n' + BASE) == [expected]


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("network", 'lond_port = "5663"'),
        ("network", "lond_port = 0"),
        ("network", "lond_port = 65536"),
        ("network", 'security = "tls"'),
        ("network", 'negotiation = ""'),
        ("network", 'hosts = "msul1"'),
        ("network", r'certificate = "a\u0000b"'),
        ("sockets", "mode = 0o660"),
        ("sockets", 'mode = "0680"'),
        ("sockets", 'mode = "660\\n"'),
        ("sockets", 'name = "ip"'),
        ("sockets", 'directory = ""'),
        ("sockets", 'group = "a b"'),
        ("sockets", 'allow_uids = [""]'),
        ("sockets", "allow_uids = [-1]"),
        ("pool", "max_connections = 0"),
        ("pool", "max_connections = 1.5"),
        ("pool", "max_connections = true"),
        ("pool", "max_queued = 0xfffffffffffffffffffffff"),
        ("pool", "connect_timeout = 0"),
        ("pool", "connect_timeout = -1.0"),
        ("pool", "connect_timeout = nan"),
        ("pool", "connect_timeout = inf"),
        ("pool", "reply_timeout = 1979-05-27"),
        ("pool", "unacknowledged_timeout = 2147484"),
        ("delayed", "settle = -0.1"),
        ("delayed", "max_attempts = []"),
        ("admin", "stop_timeout = {}"),
        ("log", 'level = "INFO"'),
        ("log", 'format = "text"'),
        ("log", "sample = -1"),
    ],
)
def test_bad_values(table: str, line: str) -> None:
    """A value that breaks its key's constraint is one problem that names both."""
    toml = BASE + line if table == "network" else f"{BASE}[{table}]\n{line}"
    lines = problems_of(toml)
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"lonc.toml: {table}.{line.split(maxsplit=1)[0]}")
    assert ": found " in lines[0]
    assert "; expected " in lines[0]


def test_a_huge_loncapa_conf_is_refused() -> None:
    """It is not taken apart: that would take long."""
    lines = problems_of(BASE + 'loncapa_conf = "loncapa.conf"', conf=b"\n" * (LONCAPA_CONF_MAX + 1))
    assert lines == [
        "/etc/lonc/loncapa.conf: is larger than 1048576 bytes; expected a loncapa.conf"
    ]


def test_all_problems_at_once() -> None:
    """Problems of all three files come together, in the order in which they are read."""
    lines = problems_of(
        BASE
        + 'loncapa_conf = "loncapa.conf"\n[pool]\nx = 1\nmax_queued = ""\n[log]\nsample = -1\n',
        HOSTS + b"bad line\n",
        b"PerlSetVar londPort x\n",
    )
    assert [line.split(": ")[:2] for line in lines] == [
        ["lonc.toml", "pool.x"],
        ["lonc.toml", "pool.max_queued"],
        ["lonc.toml", "log.sample"],
        ["/etc/lonc/loncapa.conf", "line 1 (londPort)"],
        ["/etc/lonc/hosts.tab", "line 4"],
    ]


def test_invalid_value_is_reported_once() -> None:
    """The default that stands in for a bad value gives no problem of its own."""
    toml = BASE + '[pool]\nretry_backoff_min = 100.0\nretry_backoff_max = "x"\n'
    assert len(problems_of(toml)) == 1
    assert len(problems_of('network = 3\n[sockets]\nname = "dns"')) == 1
    assert len(problems_of('[network]\nhost_id = 3\nhosts_tab = ""\n')) == 2


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (b"a = ?", "line 1, column 5: not TOML; invalid value"),
        (b"[network]\nx y\n", "line 2, column 3: not TOML; expected '=' after a key"),
        (b"[network]\n[network]\n", "line 2, column 9: not TOML; cannot declare"),
        (b"# fine\n# \xff\n", "line 2: byte 0xff is not UTF-8"),
        (b"\n# \x00\n", "line 2, column 3: not TOML; found invalid character"),
        (b"a = " + b"9" * 5000, "not TOML; a number with too many digits"),
        (b"a = " + b"[" * 100_000, "arrays or tables nested too deep"),
        (b"\n[" + b"a." * 100_000 + b"a]", "line 2: more than 32 names joined by dots"),
        (b"\n" + b'"a" . ' * 100_000 + b"a = 1", "line 2: more than 32 names joined by dots"),
        (b"x = {" + b"a." * 100_000 + b"a = 1}", "line 1: more than 32 names joined by dots"),
        (b'a = """', "end of document: not TOML"),
    ],
)
def test_what_is_no_toml(toml: bytes, expected: str) -> None:
    """A file that cannot be parsed is one problem with a line, and takes no time."""
    started = time.monotonic()
    lines = problems_of(toml)
    assert time.monotonic() - started < 2
    assert len(lines) == 1
    assert lines[0].startswith("lonc.toml: " + expected), lines


def test_dots_in_comments_and_texts() -> None:
    """Only names that are joined by dots are counted."""
    row = "." * 100
    names = ", ".join(f'"h.{number}"' for number in range(100))
    hosts = "".join(f"h.{number}:a:b:c\n" for number in range(100)).encode()
    assert good(f"# {row}\n{BASE}hosts = [{names}] # {row}\n", hosts).hosts


def test_many_problems_are_counted() -> None:
    """Of a file full of unknown keys the first are reported, quickly."""
    keys = "".join(f"key{number} = 1\n" for number in range(30_000))
    started = time.monotonic()
    lines = problems_of(f"{BASE}[pool]\n{keys}")
    assert time.monotonic() - started < 3
    assert len(lines) == SHOWN_PROBLEMS + 1
    assert lines[-1] == f"lonc.toml: ... and {30_000 - SHOWN_PROBLEMS} more"


def test_two_thousand_hosts_are_quick() -> None:
    """A large network is no burden at start: some 15 ms, by the best of five on a busy machine."""
    hosts = b"".join(b"h%d:dom%d:library:h%d.example.org:https\n" % (n, n, n) for n in range(2000))

    def seconds() -> float:
        started = time.process_time()
        assert len(good(BASE, hosts).hosts) == 2000
        return time.process_time() - started

    assert min(seconds() for _ in range(5)) < 0.1


def test_settings_cannot_be_changed() -> None:
    """What was checked stays as it was checked."""
    with pytest.raises(AttributeError):
        Settings().pool = Pool()  # type: ignore[misc]
