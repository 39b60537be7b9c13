# SPDX-License-Identifier: GPL-2.0-or-later
"""loncapa.conf (protocol.md, section 1)."""

from __future__ import annotations

import random

import pytest

from lonc_gevent.configuration.loncapa_conf import PerlVar, parse


@pytest.mark.parametrize(
    "line",
    [
        b"PerlSetVar lonHostID msul1",
        b" \t PerlSetVar\t\tlonHostID   msul1  ",
        b"PerlSetVar lonHostID msul1 and more\r",
    ],
)
def test_third_field_is_the_value(line: bytes) -> None:
    """Blanks of any number part the fields, what follows the third means nothing."""
    assert parse(b"# x\n" + line + b"\n") == {"lonHostID": PerlVar("msul1", 2)}


@pytest.mark.parametrize(
    "line",
    [
        b"# PerlSetVar lonHostID msul1",
        b"XPerlSetVar lonHostID msul1",
        b"PerlSetVarlonHostID msul1",
        b"PerlAddVar lonHostID msul1",
        b"PerlSetVar",
        b"PerlSetVar \n lonHostID msul1",
    ],
)
def test_other_lines_do_not_count(line: bytes) -> None:
    """Only a line that starts with the word PerlSetVar counts."""
    assert parse(line) == {}


def test_later_lines_win() -> None:
    """Of two lines for one name the last one holds, with its number."""
    conf = b"PerlSetVar a 1\nPerlSetVar b 2\nPerlSetVar a 3"
    assert parse(conf) == {"a": PerlVar("3", 3), "b": PerlVar("2", 2)}


def test_quotes_are_kept() -> None:
    """LON-CAPA's reader strips no quotes, so they are part of the value."""
    assert parse(b'PerlSetVar a "b"')["a"].value == '"b"'


def test_a_value_may_be_missing_or_no_text() -> None:
    """Neither makes parsing fail; the check of the key reports the value."""
    assert parse(b"PerlSetVar a\nPerlSetVar b \xff") == {
        "a": PerlVar("", 1),
        "b": PerlVar("\udcff", 2),
    }


def test_rubbish_gives_nothing() -> None:
    """Arbitrary bytes are no PerlSetVar lines."""
    assert parse(random.Random(3).randbytes(100_000)) == {}
