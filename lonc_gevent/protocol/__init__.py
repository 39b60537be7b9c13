# SPDX-License-Identifier: GPL-2.0-or-later
"""lond's wire without I/O: lines, handshake and its tables, cipher, TLS records."""
