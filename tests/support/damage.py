# SPDX-License-Identifier: GPL-2.0-or-later
"""Damaged configuration files, and what loading them results in.

Expected is a Configuration, or a ConfigError whose problems are short printable lines.
"""

from __future__ import annotations

import faulthandler
import os
import random
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from lonc_gevent.configuration.files import load
from lonc_gevent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

LINE_MAX = 4500  # a path may be that long, and is named in full
HANGS_AFTER = 30.0

PIECES = (
    *(b"[", b"]", b"[[", b"{", b"}", b"=", b".", b'"', b'"""', b"'", b"#", b"\\", b",", b":", b"/"),
    *(b"\n", b"\r\n", b"\0", b"\x1b[2J", b"\xff\xfe", b"\xc3\xa9", b"\xef\xbb\xbf", b"\\u0000"),
    *(b"nan", b"inf", b"-1", b"0", b"1e999", b"9" * 30, b"0x" + b"f" * 5000, b"9" * 5000),
    *(b"true", b"1979-05-27", b"..", b"../", b"[hosts.", b"PerlSetVar ", b"^", b"a." * 200),
    *(b"[" * 2000, b"{a=" * 500, b"x" * 5000, b"a:b:c:d\n", b"ssl", b"both", b"dns", b"::1"),
)


class Summary(NamedTuple):
    """What came of a number of damaged configurations; `failures` must be empty."""

    good: int
    refused: int
    failures: list[str]
    slowest: float


def originals(config: Path) -> dict[str, bytes]:
    """Take the repository's files; without comments, so that damage hits what counts."""
    toml = (config / "lonc.toml").read_bytes().replace(b"\n# [hosts", b"\n[hosts")
    toml = re.sub(rb"(?m)^# ((?:address|port|client_id|reply_timeout) = )", rb"\1", toml)
    toml = re.sub(rb"(?m)^#.*\n", b"", toml)
    return {
        "lonc.toml": toml.replace(b'loncapa_conf = ""', b'loncapa_conf = "loncapa.conf"'),
        "loncapa.conf": (config / "loncapa.conf").read_bytes(),
        "hosts.tab": (config / "hosts.tab").read_bytes(),
    }


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Damage `data` in one to eight places."""
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(data) + 1)
        to = min(len(data), at + rng.choice((1, 1, 2, 5, 20, 100)))
        match rng.randrange(8):
            case 0:
                data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            case 1:
                data = data[:at] + data[to:]
            case 2:
                data = data[:at] + rng.choice(PIECES) + data[at:]
            case 3:
                data = data[:at] + rng.choice(PIECES) + data[to:]
            case 4:
                other = rng.randrange(len(data) + 1)
                data = data[:other] + data[at:to] + data[other:]
            case 5:
                lines = data.split(b"\n")
                del lines[rng.randrange(len(lines))]
                data = b"\n".join(lines)
            case 6:
                data = data[:at] + rng.randbytes(rng.choice((1, 4, 64))) + data[to:]
            case _:
                lines = data.split(b"\n")
                rng.shuffle(lines)
                data = b"\n".join(lines)
    return data if rng.random() > 0.01 else data[: rng.randrange(len(data) + 1)]


def place(rng: random.Random, path: Path, data: bytes) -> None:
    """Write a file; rarely, put something else than a file there."""
    match rng.randrange(400):
        case 0:
            path.mkdir()
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to(rng.choice(("/dev/zero", path.name, "/nowhere")))
        case 3:
            pass  # nothing at all
        case 4:
            path.write_bytes(rng.randbytes(2000))
        case _:
            path.write_bytes(data)


def attempt(path: Path) -> tuple[bool, str]:
    """Load one configuration: whether it is good, and what went wrong with loading it."""
    try:
        load(path, to_run=True)
    except ConfigError as error:
        if not error.problems:
            return False, "a ConfigError without problems"
        for problem in error.problems:
            if not problem.isprintable() or len(problem) > LINE_MAX:
                return False, f"a problem that is no short printable line: {problem!r:.200}"
        return False, ""
    except Exception as error:  # noqa: BLE001 - that there is none is what this shows
        return False, f"{type(error).__name__}: {error!s:.200}"
    return True, ""


def run(count: int, seed: int, config: Path, folder: Path) -> Summary:
    """Load `count` damaged configurations, made in `folder` of those in `config`.

    One that takes longer than `HANGS_AFTER` ends the process with a traceback.
    """
    rng = random.Random(seed)
    files = originals(config)
    good, refused, slowest, failures = 0, 0, 0.0, []
    for number in range(count):
        damaged = rng.sample(sorted(files), rng.choice((1, 1, 1, 2, 3)))
        for name, data in files.items():
            remove(folder / name)
            if name in damaged:
                place(rng, folder / name, mutate(rng, data))
            else:
                (folder / name).write_bytes(data)
        faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
        started = time.monotonic()
        passed, failure = attempt(folder / "lonc.toml")
        slowest = max(slowest, time.monotonic() - started)
        faulthandler.cancel_dump_traceback_later()
        good += passed
        refused += not passed and not failure
        if failure:
            failures.append(f"number {number} (in {', '.join(damaged)}): {failure}")
    return Summary(good, refused, failures, slowest)


def remove(path: Path) -> None:
    """Remove whatever `place` may have made."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
