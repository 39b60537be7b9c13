# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections to londs: the pool of a host, dialling, handshake, TLS, retry gate, counters."""
