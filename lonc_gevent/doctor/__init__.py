# SPDX-License-Identifier: GPL-2.0-or-later
"""Examination of a real lond, with advice on settings: `lonc-gevent doctor`."""
