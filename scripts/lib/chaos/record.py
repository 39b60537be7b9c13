# SPDX-License-Identifier: GPL-2.0-or-later
"""What was asked and what was heard, in brief: minutes of it are millions of requests."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

SHOWN: Final = 60
"""Bytes of a request that are kept as they are; of a longer one there are so many, and a digest."""


def brief(request: bytes) -> bytes:
    """Return what tells a request from all others, and is short."""
    if len(request) <= SHOWN:
        return request
    return request[:SHOWN] + b"..." + hashlib.blake2b(request, digest_size=16).digest()


class Heard:
    """What a lond has received, read on from its record whenever it is asked for."""

    def __init__(self, record: Path) -> None:
        self._record = record
        self._read = 0
        self._times: Counter[bytes] = Counter()

    def mend(self) -> None:
        """Cut off the line that a lond had not written whole when it was killed.

        Otherwise the next lond continues that line with its first request. A request whose line is
        torn was not answered, as lond writes the line first.
        """
        self.times()
        if self._record.exists():
            os.truncate(self._record, self._read)

    def times(self) -> Counter[bytes]:
        """Return how often it received each request, told in brief."""
        if self._record.exists():
            with self._record.open("rb") as file:
                file.seek(self._read)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._times[brief(line[:-1])] += 1
                    self._read += len(line)
        return self._times
