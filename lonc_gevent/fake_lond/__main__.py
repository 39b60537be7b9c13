# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m lonc_gevent.fake_lond` is `lonc-gevent lond`."""

from __future__ import annotations

from .command import lond_command

lond_command(prog_name="python -m lonc_gevent.fake_lond")
