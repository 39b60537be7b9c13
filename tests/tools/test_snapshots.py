# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshot files of expected texts (tests/support/snapshots.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from snapshots import Snapshot, read

TESTS = Path(__file__).resolve().parents[1]


def test_a_text_that_differs_from_the_snapshot_fails(tmp_path: Path) -> None:
    module = tmp_path / "test_x.py"
    Snapshot(module, "test_a", update=True)("one\ntwo")

    Snapshot(module, "test_a", update=False)("one\ntwo\n")
    with pytest.raises(AssertionError):
        Snapshot(module, "test_a", update=False)("one\nthree")
    with pytest.raises(AssertionError, match="has no text"):
        Snapshot(module, "test_b", update=False)("one\ntwo")


def test_an_update_keeps_the_texts_of_other_tests(tmp_path: Path) -> None:
    module = tmp_path / "test_x.py"
    Snapshot(module, "test_b[1]", update=True)("b")
    Snapshot(module, "test_a", update=True)("a")
    Snapshot(module, "test_b[1]", update=True)("")

    assert read(module.with_suffix(".snapshots")) == {"test_a": "a\n", "test_b[1]": "\n"}


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.snapshots")), ids=lambda path: path.stem)
def test_every_snapshot_belongs_to_a_test(path: Path) -> None:
    code = path.with_suffix(".py").read_text(encoding="utf-8")

    for test in read(path):
        assert f"def {test.partition('[')[0]}(" in code
