# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon, and a thread in it that counts what is alive: greenlets, watchers, all objects.

    python -m soak_daemon COUNTS run --config FILE

The newest counts are in the file COUNTS. Counting all objects holds the interpreter's lock for some
ms each time, so it is not a part of the daemon.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from pathlib import Path
from typing import Final

from greenlet import greenlet

INTERVAL: Final = 2.0
"""Seconds between two counts."""

WATCHERS: Final = "gevent.libev.corecext"


def count(path: Path) -> None:
    """Count until the process ends."""
    new = path.with_suffix(".new")
    while True:
        # Garbage that is not collected yet counts: a daemon's memory holds it, too.
        objects = gc.get_objects()
        counts = {
            "greenlets": sum(isinstance(o, greenlet) and not o.dead for o in objects),
            "watchers": sum(type(o).__module__ == WATCHERS for o in objects),
            "objects": len(objects),
        }
        del objects
        new.write_text(json.dumps(counts))
        new.replace(path)
        time.sleep(INTERVAL)


def main() -> None:
    """Run it from the command line."""
    path = Path(sys.argv.pop(1))
    threading.Thread(target=count, args=(path,), daemon=True).start()
    from lonc_gevent.cli import main as cli  # noqa: PLC0415 - the thread first

    cli()


if __name__ == "__main__":
    main()
