# SPDX-License-Identifier: GPL-2.0-or-later
"""A warning while there is still time: the certificate that is about to expire."""

from __future__ import annotations

from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Final

import gevent

from lonc_gevent.configuration.certificates import SOON

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

DAY: Final = 86400.0


def warn_daily(expires: Callable[[], float | None], logger: FilteringBoundLogger) -> None:
    """Look now and once a day, for ever; a greenlet of its own.

    `expires`: when our certificate does, in seconds since 1970; None: there is none now.
    """
    while True:
        end = expires()
        if end is not None:
            warn(end, time(), logger)
        gevent.sleep(DAY)


def warn(expires: float, now: float, logger: FilteringBoundLogger) -> None:
    """Log `certificate_expires` from 30 days before the end on, `certificate_expired` after it."""
    left = expires - now
    if left > SOON:
        return
    date = datetime.fromtimestamp(expires, UTC).date().isoformat()
    if left <= 0:
        logger.error("certificate_expired", expires=date)
    else:
        logger.warning("certificate_expires", expires=date, days_left=int(left / DAY))
