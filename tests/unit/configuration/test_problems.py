# SPDX-License-Identifier: GPL-2.0-or-later
"""How problems are reported."""

from __future__ import annotations

from lonc_gevent.configuration.problems import SHOWN_PROBLEMS, Problem, Sheet, dotted, show


def test_values_are_shown_short() -> None:
    """What was found is reported in some 60 printable characters, whatever it is."""
    assert show("x" * 1_000_000) == '"' + "x" * 38 + "..." + "x" * 17 + '"'
    assert show('a"b\\\n\x1b\udcff\u202e') == '"a\\"b\\\\\\n\\x1b\\xff\\u202e"'
    assert len(show("\0" * 60)) <= 60
    assert show(16**5000) == "a huge number"
    assert show(b"\xff") == '"\\xff"'
    assert dotted("hosts", "a.b", "port") == 'hosts."a.b".port'
    assert len(dotted("x" * 1000)) < 60


def test_a_sheet_counts_what_it_does_not_show() -> None:
    """The last line tells how many more there are."""
    sheet = Sheet("f")
    for number in range(SHOWN_PROBLEMS + 2):
        sheet.add(f"line {number}", "bad")
    assert str(sheet.problems()[0]) == "f: line 0: bad"
    assert str(Problem("a\nb", "c\x1b", "bad", "good")) == "a\\nb: c\\x1b: bad; good"
    assert str(sheet.problems()[-1]) == "f: ... and 2 more"
