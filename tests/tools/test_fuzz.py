# SPDX-License-Identifier: GPL-2.0-or-later
"""The fuzz targets over their seeds, their corpora, and random changes of both, for a moment.

`scripts/fuzz` searches longer, guided by coverage.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import pytest

from lonc_gevent.protocol import cipher, lines
from lonc_gevent.protocol import tls_records as tlsrecords

FUZZ = Path(__file__).parents[1] / "fuzz"
sys.path.append(str(FUZZ))

import corpus  # noqa: E402 - found only now
from targets import SEEDS, TARGETS  # noqa: E402 - found only now

SECONDS = 0.4
"""For random changes of each target's inputs."""

_PIECES = (
    b"\n",
    b"\x00",
    b":",
    b"\xff",
    b"encrypt:",
    b"sethost:",
    b"enc:8:",
    b"ok\n",
    b"\x15\x03\x03",
)


def inputs(name: str) -> list[bytes]:
    """Return the seeds and the corpus of a target."""
    return [b"", *SEEDS[name], *corpus.load(name)]


def changed(data: bytes, rng: random.Random) -> bytes:
    """Change a few places of an input."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randint(0, len(made))
        match rng.randint(0, 3):
            case 0:
                made[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del made[at : at + rng.randint(1, 9)]
            case 2:
                made[at:at] = rng.choice(_PIECES)
            case _:
                made[at:at] = made[: rng.randint(0, 30)]
    return bytes(made)


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name: str) -> None:
    """Whatever was found before stays mended."""
    for data in inputs(name):
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_random_changes(name: str) -> None:
    """Random changes of known inputs find nothing."""
    rng = random.Random()
    known = inputs(name)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        data = changed(rng.choice(known), rng)
        try:
            TARGETS[name](data)
        except Exception as error:
            raise AssertionError(f"{name} fails on {data!r}") from error


def test_every_target_has_seeds() -> None:
    """Each target begins somewhere."""
    assert set(SEEDS) == set(TARGETS)
    assert all(SEEDS.values())


def test_every_corpus_belongs_to_a_target_and_is_in_order() -> None:
    """A corpus that no target reads, or one that is not as `save` writes it, is a mistake."""
    for path in corpus.FOLDER.iterdir():
        assert path.stem in TARGETS
        inputs = corpus.load(path.stem)
        assert inputs == sorted(set(inputs), key=lambda data: (len(data), data))
        assert inputs


def test_saved_corpus_is_loaded_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any bytes come back, each input once."""
    monkeypatch.setattr(corpus, "FOLDER", tmp_path)
    inputs = [b"", b"\n", bytes(range(256)), b"\r\n'\"\\", b"\n"]

    corpus.save("lines", inputs)

    assert set(corpus.load("lines")) == set(inputs)
    assert (tmp_path / "lines.txt").read_text().count("\n") == len(set(inputs))


def run(name: str) -> None:
    """Run a target over all that is known."""
    for data in inputs(name):
        TARGETS[name](data)


def test_a_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The targets see what is broken on purpose."""
    with monkeypatch.context() as patch:
        patch.setattr(lines.LineBuffer, "rest", lambda _: b"")
        with pytest.raises(AssertionError):
            run("lines")
    with monkeypatch.context() as patch:
        patch.setattr(cipher.Cipher, "open_pieces", lambda _, line: [line])
        with pytest.raises(AssertionError):
            run("sealed")
    with monkeypatch.context() as patch:
        patch.setattr(tlsrecords.Tail, "plain", lambda _, data: data[:1])
        with pytest.raises(AssertionError):
            run("tls_records")
    run("lines")
