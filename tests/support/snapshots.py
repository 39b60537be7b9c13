# SPDX-License-Identifier: GPL-2.0-or-later
"""Texts that tests expect, in files: `test_x.py` has its texts in `test_x.snapshots`.

A file has a section for each test, headed by `=== ` and the test's name with its parameters.
`pytest --update-snapshots` writes the texts that the tests get; the diff is then to be reviewed.
"""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "=== "


class Snapshot:
    """The expected text of one test. Call it with the text that the test got."""

    def __init__(self, module: Path, test: str, *, update: bool) -> None:
        self.path = module.with_suffix(".snapshots")
        self.test = test
        self.update = update

    def __call__(self, text: str) -> None:
        """Fail if the text differs from the expected one, or write it if asked to update."""
        text = text.rstrip("\n") + "\n"
        assert not any(line.startswith(HEAD) for line in text.splitlines())
        if self.update:
            self._write(text)
            return
        expected = read(self.path).get(self.test)
        assert expected is not None, f"{self.path.name} has no text: pytest --update-snapshots"
        assert text == expected, "if the text is right: pytest --update-snapshots"

    def _write(self, text: str) -> None:
        with self.path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # for tests that run in parallel
            texts = read(self.path) | {self.test: text}
            file.truncate(0)
            file.write("".join(f"{HEAD}{test}\n{texts[test]}" for test in sorted(texts)))


def read(path: Path) -> dict[str, str]:
    """Return the texts in a file, by test."""
    if not path.exists():
        return {}
    texts: dict[str, str] = {}
    test = ""
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.startswith(HEAD):
            test = line.removeprefix(HEAD).rstrip("\n")
            texts[test] = ""
        else:
            texts[test] += line
    return texts
