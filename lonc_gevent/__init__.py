# SPDX-License-Identifier: GPL-2.0-or-later
"""lonc-gevent: the local proxy daemon of the LON-CAPA network."""

__version__ = "0.1.0"
