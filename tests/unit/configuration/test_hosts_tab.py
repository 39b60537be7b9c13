# SPDX-License-Identifier: GPL-2.0-or-later
"""hosts.tab (protocol.md, section 1)."""

from __future__ import annotations

import random

import pytest

from lonc_gevent.configuration import hosts_tab
from lonc_gevent.configuration.hosts_tab import HostLine, HostsTab
from lonc_gevent.configuration.problems import SHOWN_PROBLEMS, Severity, Sheet


def parse(data: bytes) -> tuple[HostsTab, list[str]]:
    """Parse, with the problems as lines."""
    sheet = Sheet("hosts.tab")
    parsed = hosts_tab.parse(data, sheet)
    return parsed, [str(problem) for problem in sheet.problems()]


def test_fields_and_line_numbers() -> None:
    """A line gives id, domain, role, dns name and its number; skipped lines count."""
    data = b"# comment\n\n^dns:x\n  \nmsul1:msu:library:a.example\n # \xff\nmsul2:msu:access:b"
    parsed, problems = parse(data)
    assert not problems
    assert parsed.hosts == (
        HostLine("msul1", "msu", "library", "a.example", (), 5),
        HostLine("msul2", "msu", "access", "b", (), 7),
    )


@pytest.mark.parametrize("extra", [("10.0.0.1",), ("https", "example.org"), ("",)])
def test_extra_fields_are_kept_aside(extra: tuple[str, ...]) -> None:
    """The old form (an IP) and the new one (protocol, domain) are both taken."""
    parsed, problems = parse(":".join(["a", "b", "c", "d", *extra]).encode())
    assert not problems
    assert parsed.hosts[0].extra == extra


@pytest.mark.parametrize("data", [b"a:b:c:d\r\ne:f:g:h\r\n", b"\xef\xbb\xbfa:b:c:d\n e : f:g:h \n"])
def test_line_ends_and_blanks_of_editors(data: bytes) -> None:
    """Carriage returns, a byte order mark and blanks around fields are no part of them."""
    parsed, problems = parse(data)
    assert not problems
    assert [(host.id, host.dns_name) for host in parsed.hosts] == [("a", "d"), ("e", "h")]


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        (b"a:b:c", "line 2: 3 of 4 fields"),
        (b"words", "line 2: 1 of 4 fields"),
        (b":b:c:d", 'line 2: host id ""'),
        (b"a/b:b:c:d", 'line 2: host id "a/b"'),
        (b"..:b:c:d", 'line 2: host id ".."'),
        (b"a b:b:c:d", 'line 2: host id "a b"'),
        (b"a" * 101 + b":b:c:d", "line 2: host id"),
        (b"a:b:c:", 'line 2: dns name ""'),
        (b"a:b:c:d..e", "line 2: dns name"),
        (b"a:b:c:" + b"d" * 64, "line 2: dns name"),
        (b"a:b:c:10.0.0.256", "line 2: dns name"),
        (b"a:b\0:c:d", "line 2: control characters"),
        (b"a:b:c:d\xff", "line 2: byte 0xff is not UTF-8"),
        (b"good:b:c:d", 'line 2: id "good" is already on line 1'),
    ],
)
def test_invalid_line_is_reported_by_number(line: bytes, reported: str) -> None:
    """A bad line is one problem; the lines around it are read all the same."""
    parsed, problems = parse(b"good:b:c:d\n" + line + b"\nlast:b:c:d\n")
    assert [host.id for host in parsed.hosts] == ["good", "last"]
    assert len(problems) == 1
    assert problems[0].startswith("hosts.tab: " + reported)


def test_ids_of_bad_lines_are_known() -> None:
    """An id with an invalid line is not reported a second time as a missing one."""
    parsed, _ = parse(b"bad:x\ngood:a:b:c\n")
    assert parsed.ids == {"bad", "good"}


@pytest.mark.parametrize("data", [b"", b"# only\n\n^this\n", b"bad:line\n"])
def test_file_without_a_good_line_is_fatal(data: bytes) -> None:
    sheet = Sheet("hosts.tab", Severity.ERROR)

    hosts_tab.parse(data, sheet)

    fatal = [str(each) for each in sheet.problems() if each.severity is Severity.FATAL]
    assert fatal == [
        "hosts.tab: no host in it; expected id:domain:role:dns-name[:more], one a line"
    ]


def test_long_invalid_line_is_reported_shortened() -> None:
    """Of many bad lines the first are shown, the rest counted, each short and printable."""
    rubbish = random.Random(5).randbytes(200_000)
    _, problems = parse(rubbish)
    assert SHOWN_PROBLEMS < len(problems) <= SHOWN_PROBLEMS + 2  # the last two: none, and how many
    assert problems[-1].startswith("hosts.tab: ... and ")
    assert all(problem.isprintable() and len(problem) < 200 for problem in problems)


def test_too_many_lines() -> None:
    """A file of nothing but line ends is refused before it is taken apart."""
    parsed, problems = parse(b"\n" * (hosts_tab.MAX_LINES + 1))
    assert not parsed.hosts
    assert problems == ["hosts.tab: more than 200000 lines; expected a hosts.tab"]
