# SPDX-License-Identifier: GPL-2.0-or-later
"""Daily warning of a certificate that expires soon."""

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
    """Check the certificate now and once a day, for ever.

    expires  returns when it expires, in seconds since 1970; None if there is no certificate
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
