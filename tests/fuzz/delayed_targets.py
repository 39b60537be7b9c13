# SPDX-License-Identifier: GPL-2.0-or-later
"""The fuzz targets of delayed requests: names of files, their texts, and sealed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lonc_gevent.delayed.requests import (
    Verdict,
    file_name,
    first_word,
    host_of,
    judge,
    shown_name,
)
from lonc_gevent.delayed.seal import SealKey, is_sealed, sealed_size
from lonc_gevent.errors import UnsealError
from lonc_gevent.perm_log import line_of
from lonc_gevent.printable import escape

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = b"1700000000.000001.42.ping.msul2"


def names(data: bytes) -> None:
    """Give a host id or None for any name, and the id again for a name of our own making."""
    name = data.decode("utf-8", "surrogateescape")
    host = host_of(name)
    assert host is None or (host and name.endswith("." + host))
    made = file_name(1_700_000_000_000_001, 42, data, "s10.l2")
    assert host_of(made) == "s10.l2"
    assert "/" not in made
    assert made.isascii()
    middle = made.split(".")[3]
    assert middle == "_" or data.startswith(middle.encode())
    assert shown_name(made) == "1700000000.000001.42.*.s10.l2"
    assert "*" in shown_name(name)
    assert escape(name).isprintable()


def texts(data: bytes) -> None:
    """Pass only what is one whole request line, and make one line of any answer."""
    if judge(data, 64)[0] is Verdict.READY:
        assert data.endswith(b"\n")
        assert data.count(b"\n") == 1
        assert 1 < len(data) <= 64
        assert line_of("S", 1.5, "now", "msul2", data).count(b"\n") == 1
    assert first_word(data).isascii()
    assert first_word(data).isprintable()


def sealed_files(data: bytes) -> None:
    """Open what was sealed and nothing else; a file of another name is another file."""
    key = SealKey(bytes(range(32)))
    line = key.seal(data, NAME, bytes(12))
    assert is_sealed(line)
    assert len(line) == sealed_size(len(data))
    assert key.open(line, NAME) == data
    for wrong, name in ((data, NAME), (line, NAME + b"x"), (data + line, NAME)):
        try:
            opened = key.open(wrong, name)
        except UnsealError:
            continue
        assert wrong == key.seal(opened, name, bytes(12)) or name == NAME


TARGETS: dict[str, Callable[[bytes], None]] = {
    "names": names,
    "texts": texts,
    "sealed_files": sealed_files,
}

_SEALED = SealKey(bytes(range(32))).seal(b"encrypt:passwd:x\n", NAME, bytes(12))

SEEDS: dict[str, list[bytes]] = {
    "names": [NAME, b"1.2.3.4.a.b.c", b"....", b".new.1", b"2~" + NAME],
    "texts": [b"ping\n", b"encrypt:auth:x\n", b"a\nb\n", b"", b"reset_retries\n"],
    "sealed_files": [b"ping\n", _SEALED, _SEALED[:-1], b"lonc-sealed:1:"],
}
