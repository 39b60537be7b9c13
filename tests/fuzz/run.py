# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs one target under atheris, for `scripts/fuzz`.

    run.py TARGET CORPUS [libFuzzer options]

CORPUS is where inputs that found new paths are added. Exit 0 if nothing was found.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lonc_gevent"]):
    from targets import SEEDS, TARGETS


def main() -> None:
    """Write the seeds into the corpus, and search until libFuzzer's options say to stop."""
    name, corpus, *options = sys.argv[1:]
    folder = Path(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (folder / f"seed-{number}").write_bytes(seed)
    # New inputs go to the first folder that is named; those in `options` are read only.
    atheris.Setup([sys.argv[0], corpus, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
