# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks that concern several keys, or the keys and hosts.tab."""

from __future__ import annotations

import time

import pytest
from texts import BASE, HOSTS, good, problems_of, run

from lonc_gevent.configuration.problems import SHOWN_PROBLEMS, Severity


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (
            "[pool]\nretry_backoff_min = 61.0",
            "pool.retry_backoff_min: found 61.0; expected at most retry_backoff_max, which is 60.0",
        ),
        (
            "[pool]\nretry_backoff_max = 0.1",
            "pool.retry_backoff_max: found 0.1; expected at least retry_backoff_min, which is 0.5",
        ),
        (
            "[hosts.msul2]\nretry_backoff_max = 0.1",
            "hosts.msul2.retry_backoff_max: found 0.1; expected at least retry_backoff_min",
        ),
        (
            "[hosts.msul2]\nmax_request_bytes = 1000000000",
            "hosts.msul2.max_request_bytes: found 1000000000; expected at most max_queued_bytes",
        ),
        (
            "[hosts.msul2]\nmax_queued_bytes = 1",
            "hosts.msul2.max_queued_bytes: holds for all hosts together; expected in [pool] only",
        ),
        ('[hosts.msul2]\naddress = "1.2.3.4:5"', 'hosts.msul2.address: found "1.2.3.4:5"'),
        ('[hosts.msul2]\naddress = "[::1]"', 'hosts.msul2.address: found "[::1]"'),
        (
            '[hosts.msul2]\naddress = "192.0.2.7"\nsecurity = "local"',
            'hosts.msul2.address: found "192.0.2.7"; expected this machine\'s, 127.0.0.1',
        ),
        (
            'security = "local"\n[hosts.msul2]\naddress = "::2"',
            'hosts.msul2.address: found "::2"; expected this machine\'s',
        ),
        (
            "[hosts.msul3]\nport = 1",
            'hosts.msul3: no host "msul3" in hosts.tab; did you mean "msul',
        ),
        ('hosts = ["msul22"]', 'network.hosts[0]: no host "msul22" in hosts.tab; did you mean "m'),
        ('hosts = ["msul1", "msul1"]', 'network.hosts[1]: found "msul1" again'),
        ('hosts = ["msul1", 3]', "network.hosts[1]: found 3; expected an array of host ids"),
        ('[admin]\nlisten = "0.0.0.0:80"', 'admin.listen: found "0.0.0.0:80"; expected a loopback'),
        ('[admin]\nlisten = "127.0.0.1"', "admin.listen: found "),
        ('[admin]\nlisten = "::1:80"', "admin.listen: found "),
        ('[admin]\nlisten = "example.org:80"', 'admin.listen: found "example.org:80"'),
        ('[admin]\nlisten = "localhost:70000"', "admin.listen: found "),
        ('[daemon]\npid_file = "hosts.tab"', "daemon.pid_file: found "),
        ('[daemon]\npid_file = "x/../lonc.toml"', "daemon.pid_file: found "),
        ('[admin]\nsocket = "sockets/delayed/"', "admin.socket: found "),
        ('[admin]\nsocket = "/' + 107 * "x" + '"', 'admin.socket: "/xxx'),
    ],
)
def test_checks_across_keys(toml: str, expected: str) -> None:
    """What fits key by key may not fit together."""
    lines = problems_of(BASE + toml)
    assert len(lines) == 1, lines
    assert lines[0].startswith("lonc.toml: " + expected), lines


@pytest.mark.parametrize("listen", ["", "127.0.0.1:0", "127.9.9.9:65535", "localhost:1", "[::1]:1"])
def test_good_admin_addresses(listen: str) -> None:
    """Whatever only this machine can reach may be listened at."""
    assert good(f'{BASE}[admin]\nlisten = "{listen}"').settings.admin.listen == listen


@pytest.mark.parametrize("security", ["ssl", "ssl-or-insecure"])
def test_ssl_needs_three_files(security: str) -> None:
    """Be it asked for by [network] or by one host."""
    general = problems_of(f'{BASE}security = "{security}"')
    one = problems_of(f'{BASE}[hosts.msul2]\nsecurity = "{security}"')
    for lines, key in ((general, "network.security"), (one, "hosts.msul2.security")):
        assert lines == [
            f'lonc.toml: network.{name}: missing; expected a file, since {key} is "{security}"'
            for name in ("certificate", "private_key", "ca_certificate")
        ]
    files = 'certificate = "c.pem"\nprivate_key = "c.pem"\nca_certificate = "ca"\n'
    assert good(f'{BASE}security = "{security}"\n{files}').hosts[0].security == security


@pytest.mark.parametrize("name", ["delayed", "lonc-admin", ".lonc.lock", "adm", "pids"])
@pytest.mark.parametrize("style", ["id", "dns", "both"])
def test_names_that_are_taken(name: str, style: str) -> None:
    """No host gets a socket with a name that the daemon needs in the same directory."""
    hosts = b"other:a:b:other\nme:a:b:" if style != "id" else b"other:a:b:c\n"
    hosts += name.encode() + (b":a:b:c" if style == "id" else b"")
    if name == ".lonc.lock" and style != "id":
        hosts = hosts.replace(b".lonc.lock", b"lonc-admin")  # no dns name starts with a dot
    toml = (
        f'{BASE}[sockets]\nname = "{style}"\n[admin]\nsocket = "sockets/adm"\n'
        '[daemon]\npid_file = "sockets/pids/pid"'
    )
    lines = problems_of(toml, hosts)
    assert len(lines) == 1
    assert lines[0].startswith("/etc/lonc/hosts.tab: line 2: ")
    assert "would name a socket" in lines[0]


def test_a_dns_name_that_is_the_id_of_another_host() -> None:
    """With both names in one directory, such a socket would have two owners."""
    hosts = b"a:x:y:b\nb:x:y:c\n"
    toml = BASE + "[sockets]\nname = "
    lines = problems_of(toml + '"both"', hosts)
    assert lines[0].startswith('/etc/lonc/hosts.tab: line 1: dns name "b" is the id of line 2')
    assert good(toml + '"dns"', hosts).sockets == {"b": "a", "c": "b"}
    assert good(toml + '"both"', b"a:x:y:b\nb:x:y:b\n").sockets == {"a": "a", "b": "b"}


def test_socket_paths_fit_the_kernel() -> None:
    """107 bytes pass, 108 do not; bytes count, not characters."""
    # "s10.l2" is the longest id and the admin socket is out of the way.
    toml = BASE + '[admin]\nsocket = "/a"\n[sockets]\ndirectory = "/{}"'
    assert good(toml.format("d" * 99)).sockets["s10.l2"] == "s10.l2"
    line = problems_of(toml.format("d" * 100))[0]
    assert line.startswith('lonc.toml: sockets.directory: "/ddd')
    assert 's10.l2" has 108 bytes, for socket "s10.l2"; expected at most 107 bytes' in line
    assert good(toml.format("é" * 49)).hosts
    assert problems_of(toml.format("é" * 50))


@pytest.mark.parametrize(
    ("toml", "hosts"),
    [
        ("", HOSTS + b"bad:line\n"),
        ("", HOSTS + b"msul1:again:library:elsewhere\n"),
        ("", HOSTS + b"delayed:msu:library:three.example\n"),
        ("", HOSTS + b"x" * 98 + b":msu:library:three.example\n"),
        ('hosts = ["msul1", "msul2", "s10.l2", "gone"]\n', HOSTS),
        ("[hosts.gone]\nport = 1\n", HOSTS),
    ],
)
def test_fault_in_hosts_tab_costs_one_host(toml: str, hosts: bytes) -> None:
    checked = run(BASE + toml, hosts)

    assert {problem.severity for problem in checked.problems} == {Severity.ERROR}
    assert checked.configuration is not None
    assert list(checked.configuration.sockets) == ["msul1", "msul2", "s10.l2"]


def test_directory_that_is_too_long_for_every_socket_is_fatal() -> None:
    toml = BASE + '[sockets]\ndirectory = "/{}"\n[admin]\nsocket = "/a"'

    assert run(toml.format("d" * 103)).configuration is None
    assert run(toml.format("d" * 100)).configuration is not None


def test_many_long_paths_are_reported_in_part() -> None:
    """A directory that is too long for every host is no problem a host."""
    hosts = b"".join(b"h%d:a:b:c\n" % number for number in range(100))
    lines = problems_of(BASE + '[sockets]\ndirectory = "/' + "d" * 120 + '"', hosts)
    assert "lonc.toml: sockets.directory: the same for 95 more sockets" in lines
    assert len(lines) == 7


def test_socket_names() -> None:
    """A dns name shared by ids gives one socket, the first id's."""
    toml = BASE + "[sockets]\nname = "
    assert good(toml + '"dns"').sockets == {"one.example": "msul1", "two.example": "msul2"}
    assert good(toml + '"both"').sockets == {
        "msul1": "msul1",
        "msul2": "msul2",
        "s10.l2": "s10.l2",
        "one.example": "msul1",
        "two.example": "msul2",
    }


def test_many_unknown_hosts_are_counted() -> None:
    """The nearest id is looked for only as long as it is reported: it takes some 10 ms each."""
    known = b"".join(b"host%d:a:b:c\n" % number for number in range(2000))
    ids = ", ".join(f'"x{number}"' for number in range(20_000))
    tables = "".join(f"[hosts.y{number}]\n" for number in range(60))
    started = time.monotonic()
    lines = problems_of(f"{BASE}hosts = [{ids}]\n{tables}", known)
    assert time.monotonic() - started < 20
    assert lines[-1] == f"lonc.toml: ... and {20_060 - SHOWN_PROBLEMS} more"
