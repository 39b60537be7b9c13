# SPDX-License-Identifier: GPL-2.0-or-later
"""The requests that a lond has received, shortened: minutes of a run are millions of them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

SHOWN: Final = 60
"""Bytes of a request that are kept; a longer one is replaced by so many and a digest."""


def brief(request: bytes) -> bytes:
    """Return a request, shortened, but different from all others."""
    if len(request) <= SHOWN:
        return request
    return request[:SHOWN] + b"..." + hashlib.blake2b(request, digest_size=16).digest()


class Received:
    """What a lond has received, according to its record; each look reads on from the last one."""

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
        """Return how often it received each request, shortened."""
        if self._record.exists():
            with self._record.open("rb") as file:
                file.seek(self._read)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._times[brief(line[:-1])] += 1
                    self._read += len(line)
        return self._times
