# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections from web processes: listening Unix sockets, access control, one greenlet each."""
