# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo's web application: gunicorn beside the daemon, under the same supervisord."""

from __future__ import annotations

import sys
import time
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

from demo import DemoError, free_ports, last_line, wait_until

if TYPE_CHECKING:
    from demo import Demo

Workers: TypeAlias = Literal["sync", "gevent"]
"""gunicorn's: a process a request, or greenlets."""

INCLUDE = "demo-web.conf"
ANSWER_SECONDS = 15.0


class Web:
    """The web application of one demo; to be made before the demo is started."""

    def __init__(self, demo: Demo, workers: Workers) -> None:
        self.workers = workers
        self._demo = demo
        bind = f"127.0.0.1:{free_ports(1)[0]}"
        self.url = f"http://{bind}/"
        demo.beside[INCLUDE] = {"LONC_WEB_BIND": bind, "LONC_WEB_WORKERS": workers}

    def page(self) -> str:
        """Fetch the page. Raises OSError if there is none."""
        with urllib.request.urlopen(self.url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - ours
            return str(answer.read().decode())

    def expect(self, up: set[str], down: set[str]) -> None:
        """See that the page shows these hosts. Raises DemoError if it does not."""
        log = self._demo.logs / "web.log"

        def shows() -> bool:
            try:
                page = self.page()
            except OSError:
                return False
            return all(
                f'<tr class="{state}"><th scope="row">{host}</th>' in page
                for state, hosts in (("up", up), ("down", down))
                for host in hosts
            )

        if not wait_until(shows, ANSWER_SECONDS):
            raise DemoError(f"{self.url} does not show what it should: {last_line(log)}")


def wait_for_interrupt() -> None:
    """Return at Ctrl-C: this is how one who looks at the page says that he is done."""
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
