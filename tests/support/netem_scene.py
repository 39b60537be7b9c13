# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon, a lond and traffic, to be run inside a network namespace (tests/system/test_netem.py).

    python netem_scene.py REQUESTS

Prints one JSON object: how many requests ended how, and the longest time one took.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from harness import network
from traffic import Traffic


def main() -> None:
    """Run it."""
    requests = int(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="lonc") as directory, network(Path(directory)) as net:
        lond = net.add("msul2")
        net.start()
        with Traffic(net.sockets / "msul2") as traffic:
            traffic.wait_for(requests)
        traffic.check(lond.received)
        ends = {what: traffic.number(what) for what in ("ok", "con_lost", "wrong")}
        longest = max(o.ended - o.began for o in traffic.outcomes)
        sys.stdout.write(json.dumps({**ends, "longest": longest}))


if __name__ == "__main__":
    main()
