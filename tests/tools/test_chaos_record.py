# SPDX-License-Identifier: GPL-2.0-or-later
"""The chaos run's record of what a fake lond has received."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "lib"))

from chaos import faults
from chaos.record import Received

if TYPE_CHECKING:
    from collections.abc import Callable


class Lond:
    """Writes a record: half a line when it is killed, a whole one when it has started again."""

    def __init__(self, record: Path) -> None:
        self.record = record
        self.record.write_bytes(b"echo:before\n")

    def kill(self) -> None:
        """End in the middle of a write."""
        with self.record.open("ab") as file:
            file.write(b"big:torn")

    def start(self) -> None:
        """Receive a request."""
        with self.record.open("ab") as file:
            file.write(b"echo:after\n")


@pytest.mark.parametrize("fault", [faults.kill_lond, faults.kill_all_londs])
def test_line_that_a_killed_lond_left_unfinished_does_not_spoil_the_next_one(
    tmp_path: Path, fault: Callable[[Any], str]
) -> None:
    """The request after the restart counts as received; the torn one does not."""
    host = "msul2"
    lond = Lond(tmp_path / "record")
    received = Received(lond.record)
    chance = SimpleNamespace(choice=lambda _: host)
    scene = SimpleNamespace(londs={host: lond}, received={host: received})

    fault(SimpleNamespace(scene=scene, chance=chance, pause=lambda: 0.0))

    assert received.times() == {b"echo:before": 1, b"echo:after": 1}
